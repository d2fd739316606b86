"""The one photo that all serve, and the URLs of its rendition."""

from __future__ import annotations

from io import BytesIO

from PIL import Image

from thumbproxy import Thumbnails

KEY = "a-key-that-only-this-benchmark-uses"
NAME, WIDTH = "photo.jpg", 320
ACCEPT = {"Accept": "image/webp"}
PINNED = Thumbnails([KEY]).url(NAME, width=WIDTH, format="webp", version="v1")
PRIVATE = Thumbnails([KEY]).url(NAME, width=WIDTH, format="webp")
EXPIRING = Thumbnails([KEY]).url(NAME, width=WIDTH, format="webp", expires=9_999_999_999)


def photo() -> bytes:
    """Something with detail, so that its rendition has the size of a real one."""
    out = BytesIO()
    image = Image.effect_noise((800, 600), 50).convert("RGB").resize((3200, 2400))
    image.save(out, "JPEG", quality=85)
    return out.getvalue()
