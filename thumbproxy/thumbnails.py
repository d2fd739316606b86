"""URLs for templates and views: pure computation, no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from thumbproxy.errors import BadOptions
from thumbproxy.limits import Limits
from thumbproxy.options import Options
from thumbproxy.signing import Signer
from thumbproxy.urls import AUTO, UrlCodec

Preset = Mapping[str, Any] | str

_PICTURE_FORMATS = ("avif", "webp")


class Html(str):
    """Text that is HTML already: Jinja, Django and others put it into a page as it is."""

    __slots__ = ()

    def __html__(self) -> str:
        return self


class Thumbnails:
    """Builds signed thumbnail URLs.

    keys      as in Signer, newest first
    prefix    where thumbproxy is mounted, SCRIPT_NAME included
    base_url  what comes before the prefix: "https://cdn.example.com", or nothing
    presets   name -> options, as a mapping of keywords (`format` among them) or as URL text
    """

    def __init__(
        self,
        keys: Sequence[str],
        *,
        prefix: str = "/thumb",
        base_url: str = "",
        presets: Mapping[str, Preset] | None = None,
        limits: Limits = Limits(),  # noqa: B008 - a frozen value
    ) -> None:
        self._urls = UrlCodec(Signer(keys), prefix=prefix, limits=limits)
        self._base = base_url.rstrip("/")
        self._presets = {name: _keywords(preset) for name, preset in (presets or {}).items()}
        for name in self._presets:  # a fault is found at start-up, not in a template
            self.url("any", name)

    def url(self, source: str, preset: str | None = None, **options: Any) -> str:
        """The URL of one variant: `url("photos/cat.jpg", width=400, format="webp")`.

        options: the fields of `Options`, and `format`: jpg png webp avif gif json, or auto, which
        is the default. They override those of the preset.
        Raises BadSource, BadOptions (both ValueError).
        """
        wanted = {**self._preset(preset), **options}
        format = wanted.pop("format", AUTO)
        return self._base + self._urls.build(source, _options(wanted), format)

    def srcset(
        self, source: str, preset: str | None = None, *, widths: Iterable[int], **options: Any
    ) -> str:
        """The value of a `srcset` attribute with a candidate for each width, in px.

        With a height, or a preset that has one, heights follow the ratio of the box.
        """
        wanted = {**self._preset(preset), **options}
        width, height = wanted.get("width"), wanted.get("height")
        if height and not width:
            raise BadOptions("srcset: a height needs a width beside it, for the ratio of the box.")
        candidates = []
        for candidate in widths:
            box = {"width": candidate}
            if height:
                box["height"] = max(1, round(candidate * height / width))
            # A comma may not end a URL in srcset, nor spaces be in it; ours has neither.
            candidates.append(f"{self.url(source, **{**wanted, **box})} {candidate}w")
        return ", ".join(candidates)

    def picture(
        self,
        source: str,
        preset: str | None = None,
        *,
        widths: Sequence[int],
        sizes: str = "100vw",
        alt: str = "",
        loading: str = "lazy",
        formats: Sequence[str] = _PICTURE_FORMATS,
        **options: Any,
    ) -> Html:
        """A `<picture>` element with a `<source>` for each format, best first, and JPEG for the
        rest, as escaped HTML. `src` is the widest candidate."""
        wanted = {**self._preset(preset), **options}
        wanted.pop("format", None)
        if not widths:
            raise BadOptions("picture: widths needs one width at least.")

        def candidates(format: str) -> str:
            return escape(self.srcset(source, widths=sorted(widths), **wanted, format=format))

        sources = "".join(
            f'<source type="image/{format}" srcset="{candidates(format)}" sizes="{escape(sizes)}">'
            for format in formats
        )
        jpeg = candidates("jpg")
        widest = jpeg.rpartition(", ")[2].rpartition(" ")[0]
        return Html(
            f'<picture>{sources}<img src="{widest}" srcset="{jpeg}" sizes="{escape(sizes)}"'
            f' alt="{escape(alt)}" loading="{escape(loading)}"></picture>'
        )

    def _preset(self, name: str | None) -> Mapping[str, Any]:
        if name is None:
            return {}
        try:
            return self._presets[name]
        except KeyError:
            known = ", ".join(self._presets) or "none"
            raise BadOptions(f"There is no preset {name!r}. Presets are: {known}.") from None


def _keywords(preset: Preset) -> dict[str, Any]:
    if not isinstance(preset, str):
        return dict(preset)
    options = Options.read(preset)
    return {name: getattr(options, name) for name in options.__slots__}


def _options(wanted: Mapping[str, Any]) -> Options:
    try:
        return Options(**wanted)
    except TypeError:
        unknown = [name for name in wanted if name not in Options.__slots__]
        known = ", ".join(Options.__slots__)
        raise BadOptions(f"There is no option {unknown[0]!r}. Options are: {known}.") from None
