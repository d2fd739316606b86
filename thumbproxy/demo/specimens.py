"""The lower half of the page: what the options do, and the pictures that are hard to resize."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from thumbproxy.demo.folder import Picture
from thumbproxy.demo.names import ANIMATION, CHART, LOGO, SIDEWAYS
from thumbproxy.urls.builder import Thumbnails
from thumbproxy.urls.options import Options

_BOX = {"width": 480, "height": 480}
_TALL = {"width": 320, "height": 480, "fit": "cover"}
_GROUPS: tuple[tuple[str, str, tuple[tuple[str, dict[str, Any]], ...]], ...] = (
    (
        "Fit",
        "How a picture meets a square box. The dashed line is the box.",
        (
            ("inside the box", _BOX),
            ("fill it and crop", {**_BOX, "fit": "cover"}),
            ("fill it with background", {**_BOX, "fit": "pad", "background": "e8a87c"}),
            ("ignore the ratio", {**_BOX, "fit": "stretch"}),
        ),
    ),
    (
        "Framing",
        "What is kept: by compass, by its looks, by focal point, or by an exact region.",
        (
            ("keep the west", {**_TALL, "gravity": "w"}),
            ("keep what people look at first", {**_TALL, "gravity": "smart"}),
            ("keep what is at a focal point", {**_TALL, "gravity": (0.8, 0.7)}),
            ("a region of the source", {"crop": (0.5, 0.35, 0.3, 0.45), **_BOX}),
        ),
    ),
    (
        "Turning",
        "After EXIF orientation, which is always applied.",
        (
            ("a quarter clockwise", {"width": 480, "rotate": 90}),
            ("upside down", {"width": 480, "rotate": 180}),
            ("mirrored left to right", {"width": 480, "flip": "h"}),
            ("twice the pixels, for fine screens", {"width": 240, "dpr": 2}),
        ),
    ),
    (
        "Colours",
        "The filters of CSS, worked into the picture.",
        (
            ("brighter", {"width": 480, "brightness": 30}),
            ("more contrast", {"width": 480, "contrast": 30}),
            ("paler", {"width": 480, "saturation": -60}),
            ("without colour", {"width": 480, "grayscale": True}),
        ),
    ),
    (
        "Focus and corners",
        "Lengths are pixels of the page, whatever <code>dpr</code> is.",
        (
            ("blurred", {"width": 480, "blur": 8}),
            ("sharpened", {"width": 480, "sharpen": 3}),
            ("rounded corners", {"width": 480, "radius": 60}),
            ("a circle of a square", {**_BOX, "fit": "cover", "gravity": "smart", "radius": "max"}),
        ),
    ),
    (
        "Quality and format",
        "A JPEG at a low quality and as good as 12 KB allow, then WebP, AVIF and GIF. How many "
        "bytes each takes is in the <code>Content-Length</code> of its response: open the network "
        "panel of the browser's developer tools.",
        (
            ("low quality", {"width": 480, "quality": 20, "format": "jpg"}),
            ("12 KB at most", {"width": 480, "max_bytes": 12_000, "format": "jpg"}),
            ("for nearly every browser", {"width": 480, "format": "webp"}),
            ("for newer browsers", {"width": 480, "format": "avif"}),
            ("256 colours, if you must", {"width": 480, "format": "gif"}),
        ),
    ),
)
_STAGES = {
    "Fit": "boxed",
    "Colours": "wide",
    "Focus and corners": "wide",
    "Quality and format": "wide",
}
_CHART_WIDTHS = (480, 300, 180, 110)


def options(thumbs: Thumbnails, picture: Picture) -> str:
    """One picture, many options: each variant with the text of its options, as a link."""
    groups = []
    for title, lead, variants in _GROUPS:
        cards = "".join(
            _card(thumbs, picture, caption, wanted, stage=_STAGES.get(title, ""))
            for caption, wanted in variants
        )
        groups.append(f'<h3>{title}</h3><p class="lead">{lead}</p><div class="cards">{cards}</div>')
    return (
        '<section><h2>One picture, many options</h2><p class="lead">Each is a link to the variant, '
        "with the options of its address below it. All have the version too, "
        f"<code>v_{escape(picture.version)}</code>, so that browsers may keep them.</p>"
        f"{''.join(groups)}</section>"
    )


def samples(thumbs: Thumbnails, pictures: Mapping[str, Picture]) -> list[str]:
    """A section for each of the special sample pictures that is there."""
    makers = ((CHART, _chart), (LOGO, _logo), (SIDEWAYS, _sideways), (ANIMATION, _animation))
    return [make(thumbs, pictures[name]) for name, make in makers if name in pictures]


def _card(
    thumbs: Thumbnails,
    picture: Picture,
    caption: str,
    wanted: Mapping[str, Any],
    *,
    stage: str = "",
) -> str:
    url, text = _variant(thumbs, picture, wanted)
    return (
        f'<figure class="card"><a class="stage {stage}" href="{url}">'
        f'<span><img src="{url}" alt="{escape(caption)}" loading="lazy"></span></a>'
        f"<figcaption><code>{text}</code><span>{escape(caption)}</span></figcaption></figure>"
    )


def _variant(thumbs: Thumbnails, picture: Picture, wanted: Mapping[str, Any]) -> tuple[str, str]:
    """The URL, and the text of its options and format without the version; both escaped."""
    format = wanted.get("format", "auto")
    given = {name: value for name, value in wanted.items() if name != "format"}
    url = thumbs.url(picture.source, version=picture.version, format=format, **given)
    text = escape(f"{Options(**given)}.{format}")
    return escape(url), text.replace(",", ",<wbr>")


def _chart(thumbs: Thumbnails, picture: Picture) -> str:
    figures = []
    for width in _CHART_WIDTHS:
        url, text = _variant(thumbs, picture, {"width": width, "format": "png"})
        height = max(1, round(width / picture.ratio))
        figures.append(
            f'<figure><a href="{url}"><img src="{url}" width="{width}" height="{height}"'
            f' alt="The chart at {width} pixels" loading="lazy"></a>'
            f"<figcaption><code>{text}</code></figcaption></figure>"
        )
    return (
        '<section><h2>Sharp, without false rings</h2><p class="lead">The rings grow finer towards '
        "the rim, until a smaller picture can hold them no longer. They should fade to an even "
        "grey there; a second set of rings would be a fault of the resampling.</p>"
        f'<div class="chart">{"".join(figures)}</div></section>'
    )


def _logo(thumbs: Thumbnails, picture: Picture) -> str:
    cards = [
        _card(thumbs, picture, caption, wanted, stage="wide checks")
        for caption, wanted in (
            ("transparent", {"width": 480, "format": "png"}),
            ("transparent, fewer bytes", {"width": 480, "format": "webp"}),
            ("laid on white", {"width": 480, "format": "jpg"}),
            ("laid on a colour", {"width": 480, "background": "ffe3b8", "format": "jpg"}),
        )
    ]
    return (
        '<section><h2>Soft edges</h2><p class="lead">Transparency stays where the format has it, '
        "and is laid on a colour where it has not.</p>"
        f'<div class="cards">{"".join(cards)}</div></section>'
    )


def _sideways(thumbs: Thumbnails, picture: Picture) -> str:
    card = _card(thumbs, picture, "upright", {"width": 480, "height": 480, "format": "jpg"})
    return (
        '<section class="beside"><div><h2>This way up</h2><p class="lead">A phone held upright '
        "stores its picture lying on its side and adds a note which way is up. The note is read, "
        "the picture is turned, and the note is left out of the result, as are place, time and "
        "camera.</p><p>If the arrow does not point up, something is wrong.</p></div>"
        f"{card}</section>"
    )


def _animation(thumbs: Thumbnails, picture: Picture) -> str:
    variants = (
        ("moving, in few bytes", {"width": 480, "format": "webp"}),
        ("moving, as it always was", {"width": 480, "format": "gif"}),
        ("the first frame", {"width": 480, "still": True, "format": "webp"}),
        ("frame 13", {"width": 480, "page": 13, "format": "webp"}),
    )
    cards = "".join(
        _card(thumbs, picture, caption, wanted, stage="wide") for caption, wanted in variants
    )
    return (
        '<section><h2>Moving pictures</h2><p class="lead">An animation stays one, at any size; or '
        f'it is one of its frames.</p><div class="cards">{cards}</div></section>'
    )
