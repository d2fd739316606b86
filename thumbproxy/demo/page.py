"""The gallery page: what thumbproxy makes of a folder, as one HTML document."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from thumbproxy.demo import placeholder, specimens
from thumbproxy.demo.folder import Picture, read_picture
from thumbproxy.demo.names import HERO, SPECIAL
from thumbproxy.imaging.base import Engine
from thumbproxy.urls.builder import Thumbnails

_STYLE = Path(__file__).with_name("gallery.css").read_text("utf-8")

_HERO_WIDTHS = (640, 960, 1280, 1920, 2560)
_TILE_WIDTHS = (320, 640, 960, 1280)
_TILE_SIZES = "(max-width: 640px) 100vw, (max-width: 1100px) 50vw, 33vw"
_FEW = 12  # so many pictures are shown larger
_SHOWN_RATIO = (0.4, 3.0)  # a panorama or a tower of a picture is cropped to this in the grid

_NO_PICTURES = (
    '<section><h2>No pictures yet</h2><p class="lead">Put JPEG, PNG, GIF, WebP or AVIF files into '
    "the folder, or into folders within it, and reload this page. The terminal in which "
    "<code>thumbproxy demo</code> runs says which folder it is; without <code>--photos</code> it "
    "shows sample pictures.</p></section>"
)
_FOOTER = (
    "<footer><p>Every picture on this page was resized, signed and cached by thumbproxy. "
    "Reload: they come from the cache.</p></footer>"
)


def gallery(
    thumbs: Thumbnails,
    folder: Path,
    sources: Sequence[str],
    *,
    total: int | None = None,
    engine: Engine | None = None,
) -> str:
    """The page as HTML that needs no scripts and nothing from elsewhere.

    sources  paths below `folder`, which is the thumbnails' origin
    total    how many pictures the folder has, when `sources` are not all of them
    engine   makes the placeholder of the first picture; without it none is shown
    Reads the header of each file, for its ratio and its version; a file that cannot be read is
    shown as such.
    """
    pictures = [read_picture(folder, source) for source in sources]
    usable = {picture.source: picture for picture in pictures if not picture.error}
    hero = _choose_hero(list(usable.values()))
    body = [_hero(thumbs, hero)]
    if hero is not None:
        body.append(_address(thumbs, hero))
    shown = [picture for source, picture in usable.items() if source not in SPECIAL]
    broken = [picture for picture in pictures if picture.error]
    body += [
        _grid(thumbs, shown) if usable else _NO_PICTURES,
        _broken(broken),
        _left_out((total or 0) - len(pictures)),
    ]
    if hero is not None:
        body.append(specimens.options(thumbs, hero))
        document = placeholder.facts(engine, folder, hero) if engine else None
        body.append(placeholder.section(thumbs, hero, document))
        body += specimens.samples(thumbs, usable)
        body.append(_FOOTER)
    return _document("thumbproxy gallery", "\n".join(part for part in body if part))


def _document(title: str, body: str) -> str:
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="dark light">\n'
        '<link rel="icon" href="data:,">\n'
        f"<title>{escape(title)}</title>\n<style>\n{_STYLE}</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )


def _choose_hero(pictures: Sequence[Picture]) -> Picture | None:
    """The sample made for it, else the first broad picture, else any."""
    for picture in pictures:
        if picture.source == HERO:
            return picture
    broad = (picture for picture in pictures if 1.3 <= picture.ratio <= 2.4)
    return next(broad, pictures[0] if pictures else None)


def _hero(thumbs: Thumbnails, hero: Picture | None) -> str:
    title = (
        '<div class="title"><p class="mark">thumbproxy</p>'
        "<h1>One picture.<br>Every size. Made&nbsp;once.</h1>"
        "<p>Resized when first asked for, signed, cached, and served for a year.</p></div>"
    )
    if hero is None:
        return f'<header class="hero">{title}</header>'
    image = thumbs.picture(
        hero.source,
        widths=_HERO_WIDTHS,
        sizes="100vw",
        loading="eager",
        quality=82,
        version=hero.version,
    )
    return f'<header class="hero">{image}{title}</header>'


def _address(thumbs: Thumbnails, picture: Picture) -> str:
    """How the address of the first picture is made, and what its parts are."""
    wanted: dict[str, Any] = {"width": 1280, "height": 720, "fit": "cover"}
    url = thumbs.url(picture.source, format="webp", version=picture.version, **wanted)
    call = (
        f'thumbs.url(\n    <b class="source">{escape(_quoted(picture.source))}</b>,\n'
        '    <b class="options">width=1280, height=720, fit="cover",\n'
        f"    version={escape(_quoted(picture.version))}</b>,\n"
        '    <b class="format">format="webp"</b>,\n)'
    )
    front, options, signature, format = _parts(url)
    address = (
        f'<b class="source">{escape(front)}</b>/<b class="options">{escape(options)}</b>'
        f'.<b class="signature">{escape(signature)}</b>.<b class="format">{escape(format)}</b>'
    ).replace("/", "/<wbr>").replace("</<wbr>b>", "</b>")  # fmt: skip
    return (
        '<section class="address"><h2>The address is all there is</h2>'
        '<p class="lead">A template builds it by pure computation. Nothing is opened, queried or '
        "looked up until a browser asks for the picture.</p>"
        f'<pre><code>{call}</code></pre><p class="url"><a href="{escape(url)}">{address}</a></p>'
        '<ul class="legend"><li class="source">source</li><li class="options">options</li>'
        '<li class="signature">signature</li><li class="format">format</li></ul></section>'
    )


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _parts(url: str) -> tuple[str, str, str, str]:
    """prefix and source, options, signature, format."""
    stem, signature, format = url.rsplit(".", 2)
    front, _, options = stem.rpartition("/")
    return front, options, signature, format


def _grid(thumbs: Thumbnails, pictures: Sequence[Picture]) -> str:
    if not pictures:
        return ""
    few = " few" if len(pictures) <= _FEW else ""
    tiles = "\n".join(_tile(thumbs, picture) for picture in pictures)
    return (
        '<section><h2>Gallery</h2><p class="lead">Each is a <code>&lt;picture&gt;</code> in AVIF, '
        f"WebP and JPEG at {len(_TILE_WIDTHS)} widths; the browser takes what suits it.</p>"
        f'<div class="grid{few}">\n{tiles}\n</div></section>'
    )


def _tile(thumbs: Thumbnails, picture: Picture) -> str:
    ratio = min(max(picture.ratio, _SHOWN_RATIO[0]), _SHOWN_RATIO[1])
    large = thumbs.url(picture.source, width=2000, height=2000, version=picture.version)
    image = thumbs.picture(
        picture.source,
        widths=_TILE_WIDTHS,
        sizes=_TILE_SIZES,
        alt=picture.source,
        version=picture.version,
    )
    return (
        f'<figure class="tile" style="--r:{ratio:.4f}"><a href="{escape(large)}">{image}</a>'
        f"<figcaption><span>{escape(picture.source)}</span>"
        f"<span>{picture.width} &times; {picture.height}</span></figcaption></figure>"
    )


def _broken(pictures: Sequence[Picture]) -> str:
    """The files that cannot be shown, as a list below the grid: a name and a reason each."""
    if not pictures:
        return ""
    items = "\n".join(
        f"<li><b>{escape(picture.source)}</b> <span>{escape(picture.error)}</span></li>"
        for picture in pictures
    )
    return f'<section class="broken"><h3>Not shown</h3><ul>\n{items}\n</ul></section>'


def _left_out(count: int) -> str:
    if count <= 0:
        return ""
    return f'<section class="note"><p>And {count} more, which this page leaves out.</p></section>'
