"""Placeholders: the format of ThumbHash, and pictures within the page."""

from __future__ import annotations

import base64
import io
import math
from typing import Any

import numpy as np
import pytest
from pictures import landscape
from PIL import Image
from scenes import disc, face, flower

from thumbproxy.imaging.thumbhash import encode, placeholder

# Hashes of `formula` by the package thumbhash 0.1.1 for JavaScript, by the author of the format.
VECTORS = [
    (100, 75, False, "1c080a2d8a41778760977787787787870c6ed7d0a2"),
    (40, 90, False, "18380e230875708878778778637f680682"),
    (64, 64, False, "d8380a270a7077778078788887778777787707d588604708"),
    (99, 7, False, "52690a298e405a69878888770a88188077"),
    (90, 60, True, "dd38861b8a3a726c808a870a4ea7f07150778877878878"),
    (33, 100, True, "5718860a0223a5a0378967872f48590580877c77888887"),
]


def formula(width: int, height: int, clear: bool) -> Image.Image:
    """The same pixels with every library: whole numbers only."""
    y, x = np.mgrid[:height, :width]
    planes = [(x * 3 + y * y // 40) % 256, (x * y // 30 + 60) % 256, (y * 2 + x * x // 90) % 256]
    if clear:
        planes.append(np.clip(x * 5 - y + 20, 0, 255))
    return Image.fromarray(np.stack(planes, axis=-1).astype(np.uint8))


@pytest.mark.parametrize(("width", "height", "clear", "expected"), VECTORS)
def test_hashes_are_those_of_the_reference(
    width: int, height: int, clear: bool, expected: str
) -> None:
    assert encode(formula(width, height, clear)).hex() == expected


@pytest.mark.parametrize("make", [disc, face, flower])
@pytest.mark.parametrize("size", [(800, 600), (600, 800), (700, 700), (900, 300)])
def test_a_hash_looks_like_the_picture(make: Any, size: tuple[int, int]) -> None:
    picture = make(size, (0.3, 0.4)).picture
    decoded = decoded_hash(encode(picture))
    assert abs(math.log(decoded.width / decoded.height * size[1] / size[0])) < 0.25
    assert likeness(decoded, picture) > 20


def test_a_hash_keeps_what_is_transparent() -> None:
    picture = landscape(300, 200).convert("RGBA")
    picture.putalpha(Image.linear_gradient("L").rotate(90).resize(picture.size))
    alpha = np.asarray(decoded_hash(encode(picture)).getchannel("A"), np.float64)
    assert np.abs(alpha.mean(0) - np.linspace(0, 255, alpha.shape[1])).mean() < 12


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBX"])
def test_opaque_modes_hash_alike(mode: str) -> None:
    picture = landscape(300, 200).convert("L").convert(mode)
    assert encode(picture) == encode(picture.convert("L").convert("RGB"))


def test_alpha_that_is_opaque_is_no_alpha() -> None:
    picture = landscape(90, 70)
    assert encode(picture.convert("RGBA")) == encode(picture)
    assert encode(picture.convert("LA")) == encode(picture.convert("L"))


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBX", "RGBA"])
@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (40, 30)])
def test_flat_and_thin_pictures_have_hashes_and_placeholders(
    mode: str, size: tuple[int, int]
) -> None:
    picture = Image.new(mode, size)
    assert 17 <= len(encode(picture)) <= 25
    assert max(opened_uri(placeholder(picture)).size) == min(32, max(size))


def test_a_flat_picture_is_decoded_to_its_colour() -> None:
    decoded = np.asarray(decoded_hash(encode(Image.new("RGB", (40, 30), (200, 30, 90)))))
    assert np.abs(decoded[..., :3].astype(int) - (200, 30, 90)).max() <= 6


@pytest.mark.parametrize("make", [disc, face, flower])
def test_a_placeholder_is_short_and_looks_like_the_picture(make: Any) -> None:
    picture = make((800, 600), (0.3, 0.4)).picture
    uri = placeholder(picture)
    assert len(uri) <= 400
    assert likeness(opened_uri(uri), picture) > 20


def test_a_placeholder_keeps_what_is_transparent() -> None:
    picture = Image.new("RGBA", (200, 100))
    picture.paste((200, 30, 90, 255), (100, 0, 200, 100))
    small = opened_uri(placeholder(picture)).convert("RGBA")
    alpha = np.asarray(small.getchannel("A"))
    assert alpha[:, :12].max() < 16
    assert alpha[:, -12:].min() > 240


def test_a_placeholder_has_no_metadata() -> None:
    picture = landscape(300, 200)
    picture.info = {"icc_profile": b"profile", "exif": b"Exif\0\0", "xmp": b"<xmp>"}
    body = base64.b64decode(placeholder(picture).partition(",")[2])
    assert body[12:16] == b"VP8 "
    assert picture.info["exif"]


def test_the_same_picture_has_the_same_placeholder() -> None:
    picture = landscape(300, 200)
    assert placeholder(picture) == placeholder(picture.copy())
    assert encode(picture) == encode(picture.copy())


def opened_uri(uri: str) -> Image.Image:
    head, _, body = uri.partition(",")
    assert head == "data:image/webp;base64"
    return Image.open(io.BytesIO(base64.b64decode(body)))


def likeness(small: Image.Image, picture: Image.Image) -> float:
    """PSNR in dB, at the size of the small one and without detail that it cannot have."""
    wanted = picture.convert("RGB").resize((8, 8), Image.Resampling.BOX)
    given = small.convert("RGB").resize((8, 8), Image.Resampling.BOX)
    error = np.square(np.asarray(wanted, float) - np.asarray(given, float)).mean()
    return 10 * math.log10(255**2 / max(error, 1e-9))


class Bits:
    """Reads whole numbers from bytes, the lowest bit first."""

    def __init__(self, body: bytes) -> None:
        self.number = int.from_bytes(body, "little")

    def __call__(self, bits: int) -> int:
        value = self.number & ((1 << bits) - 1)
        self.number >>= bits
        return value


def decoded_hash(body: bytes) -> Image.Image:
    """What a browser's script makes of a hash: RGBA of at most 32 px, by the format's rules."""
    bits = Bits(body)
    light, warm, red = bits(6) / 63, bits(6) / 31.5 - 1, bits(6) / 31.5 - 1
    light_scale, clear, short = bits(5) / 31, bits(1), bits(3)
    # The reference shows colours a quarter stronger, to make up for coarse steps.
    warm_scale, red_scale, wide = bits(6) / 63 * 1.25, bits(6) / 63 * 1.25, bits(1)
    opacity, opacity_scale = (bits(4) / 15, bits(4) / 15) if clear else (1.0, 0.0)
    long = 5 if clear else 7
    across, down = (long, short) if wide else (short, long)
    ratio = across / down
    size = (round(32 * min(1, ratio)), round(32 * min(1, 1 / ratio)))
    planes = [
        waves(bits, size, light, light_scale, (max(3, across), max(3, down))),
        waves(bits, size, warm, warm_scale, (3, 3)),
        waves(bits, size, red, red_scale, (3, 3)),
    ]
    alpha = waves(bits, size, opacity, opacity_scale, (5, 5)) if clear else np.ones(size[::-1])
    blue = planes[0] - 2 / 3 * planes[1]
    red_plane = (3 * planes[0] - blue + planes[2]) / 2
    pixels = np.stack([red_plane, red_plane - planes[2], blue, alpha], axis=-1)
    return Image.fromarray(np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8))


def waves(
    bits: Bits, size: tuple[int, int], mean: float, scale: float, numbers: tuple[int, int]
) -> Any:
    across, down = numbers
    at_x, at_y = ((np.arange(side) + 0.5) * np.pi / side for side in size)
    plane = np.full(size[::-1], mean)
    for y in range(down):
        for x in range(across):
            if (x or y) and x * down < across * (down - y):
                share = (bits(4) / 7.5 - 1) * scale
                plane += share * 2 * np.outer(np.cos(at_y * y), np.cos(at_x * x))
    return plane
