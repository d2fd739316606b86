"""Tags by which a CDN purges: `Surrogate-Key` of Fastly, `Cache-Tag` of Cloudflare.

A reply has a tag for its source, for each folder above it, and for everything, so that what a purge
is about is always one tag, however its name is spelled (spelling.py). It is the path as it stands
in a URL, percent-encoded: no CDN takes spaces, one separates by commas, and Fastly wants characters
from 0x21 to 0x7E.
"""

from __future__ import annotations

from hashlib import sha256
from urllib.parse import quote

from thumbproxy.core.memo import memoized
from thumbproxy.core.spelling import composed

# How each header separates its tags.
SEPARATORS = {"Surrogate-Key": " ", "Cache-Tag": ","}

# Both CDNs take 1024 bytes for a tag and 16 KiB for the header, and drop what is beyond. With these
# two bounds a header has 2.3 KiB at most, which proxies on the way take as well.
_LONGEST = 128
_DEEPEST = 16
_SAFE = "/-._~"


def tag_of(scope: str) -> str:
    """The one tag of all that a purge is about: "a/b.jpg" a source, "a/" a folder, "" everything.

    A folder below 16 others has the tag of the 16th: a purge then reaches more than it had to.
    """
    scope = composed(scope)
    folders, name = scope.split("/")[:-1], scope.rpartition("/")[2]
    if not name and len(folders) > _DEEPEST:
        scope = "/".join(folders[:_DEEPEST]) + "/"
    tag = f"thumbproxy/{quote(scope, safe=_SAFE)}"
    if len(tag) <= _LONGEST:
        return tag
    # No segment of a source begins with a dot, so no other tag looks like this.
    return f"thumbproxy/.{sha256(scope.encode()).hexdigest()[:32]}"


def tags_of(source: str) -> list[str]:
    """All tags of a source, from that of everything to its own."""
    segments = source.split("/")[:-1][:_DEEPEST]
    folders = ["/".join(segments[: depth + 1]) + "/" for depth in range(len(segments))]
    return [tag_of(scope) for scope in ("", *folders, source)]


@memoized(1024)
def tag_header(source: str, name: str) -> tuple[str, str]:
    """The header `name`, one of SEPARATORS, for the pictures of a source."""
    return name, SEPARATORS[name].join(tags_of(source))
