"""The section about the info document: what a page can show before a picture is there."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from typing import Any

from thumbproxy.core.errors import ThumbproxyError
from thumbproxy.core.formats import Format
from thumbproxy.demo.folder import Picture
from thumbproxy.imaging.base import Engine
from thumbproxy.urls.builder import Thumbnails
from thumbproxy.urls.options import Options

_WIDTH = 480
_OPTIONS = Options(width=_WIDTH)


def facts(engine: Engine, folder: Path, picture: Picture) -> dict[str, Any] | None:
    """The info document of a picture; None when there is none, because it is broken."""
    try:
        source = (folder / picture.source).read_bytes()
        document: dict[str, Any] = json.loads(engine.render(source, _OPTIONS, Format.JSON).body)
    except (ThumbproxyError, OSError):
        return None
    return document


def section(thumbs: Thumbnails, picture: Picture, document: dict[str, Any] | None) -> str:
    """A link to the document, and, if it is given, what can be made of it."""
    address = thumbs.url(picture.source, format="json", version=picture.version, width=_WIDTH)
    cards = "" if document is None else _cards(thumbs, picture, document)
    return (
        '<section><h2>Before the picture is there</h2><p class="lead">The address with '
        f'<code>json</code> as its format is <a href="{escape(address)}">a document</a>: sizes, '
        "colours, and a placeholder of a few hundred bytes, to be kept with the page and shown "
        f"until the picture has arrived.</p>{cards}</section>"
    )


def _cards(thumbs: Thumbnails, picture: Picture, document: dict[str, Any]) -> str:
    url = thumbs.url(picture.source, version=picture.version, width=_WIDTH)
    placeholder, colors = document["placeholder"]["data_uri"], document["colors"]
    drawn = (
        (_swatch(colors["dominant"]), "dominant", colors["dominant"]),
        (_swatch(colors["average"]), "average", colors["average"]),
        (_image(placeholder, picture), "placeholder", f"{len(placeholder)} bytes as text"),
        (_image(url, picture), "the picture", f"{_OPTIONS}.auto"),
    )
    return '<div class="cards">{}</div>'.format(
        "".join(
            f'<figure class="card"><span class="stage wide">{what}</span>'
            f"<figcaption><code>{escape(text)}</code><span>{caption}</span></figcaption></figure>"
            for what, caption, text in drawn
        )
    )


def _swatch(color: str) -> str:
    return f'<span style="background:{escape(color)}"></span>'


def _image(url: str, picture: Picture) -> str:
    return (
        f'<span><img src="{escape(url)}" alt="{escape(picture.source)}" loading="lazy"'
        f' style="width:100%;aspect-ratio:{picture.ratio:.4f}"></span>'
    )
