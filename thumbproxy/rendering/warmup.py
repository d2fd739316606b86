"""Makes an engine load everything that it may ever need, before it loses access to files.

Pillow loads its plugins, numpy its parts, and Python its encodings when they are first used.
"""

from __future__ import annotations

import codecs
import contextlib
import importlib
import io

import numpy as np
from PIL import Image

from thumbproxy.core.errors import ThumbproxyError
from thumbproxy.core.formats import Format
from thumbproxy.imaging.base import Engine
from thumbproxy.urls.options import Options

_MODULES = (
    "numpy.fft", "numpy.linalg", "numpy.random", "PIL.ExifTags", "PIL.ImageChops", "PIL.ImageCms",
    "PIL.ImageColor", "PIL.ImageFile", "PIL.ImageFilter", "PIL.ImageMath", "PIL.ImageMode",
    "PIL.ImageOps", "PIL.ImagePalette", "PIL.ImageSequence", "PIL.TiffImagePlugin",
)  # fmt: skip
_ENCODINGS = ("ascii", "latin-1", "utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be",
              "utf-32", "cp1252", "cp437", "unicode_escape", "idna")  # fmt: skip
_EVERYTHING = Options.read(
    "trim_5,w_20,h_10,fit_cover,g_smart,rot_90,flip_h,bg_336699,blur_1,sharp_1,bright_5,"
    "contrast_5,sat_5,round_max"
)


def warm_up(engine: Engine) -> None:
    """Read each kind of picture once, and write each kind once from a still and a moving one.

    The first picture after a start waits for this. Who writes a picture does not know what it was
    read from, so making each kind of each, which took half a second, would load nothing more.
    """
    for name in _MODULES:
        with contextlib.suppress(ImportError):  # a Pillow built without it
            importlib.import_module(name)
    for encoding in _ENCODINGS:
        codecs.lookup(encoding)
    Image.init()
    still, moving, *others = _sources()
    written = [_made(engine, source, format) for source in (still, moving) for format in Format]
    for source in (*others, *written):
        _made(engine, source, Format.JPEG)


def _made(engine: Engine, source: bytes, format: Format) -> bytes:
    """Empty where the engine cannot."""
    with contextlib.suppress(ThumbproxyError):
        return engine.render(source, _EVERYTHING, format, fallback=Format.JPEG).body
    return b""


def _sources() -> list[bytes]:
    """A still picture, a moving one, and others."""
    shades = np.arange(40 * 30 * 4, dtype=np.uint32).reshape(30, 40, 4).astype(np.uint8)
    clear = Image.fromarray(shades, "RGBA")
    plain = clear.convert("RGB")
    frames = [plain, plain.rotate(90)]
    more = {"save_all": True, "append_images": frames[1:], "duration": 50}
    made = [_saved(clear, "PNG"), *(_saved(plain, name, **more) for name in ("GIF", "PNG", "WEBP"))]
    made += [_saved(plain, "JPEG"), _saved(plain.convert("CMYK"), "JPEG")]
    made.append(_saved(plain.convert("L"), "JPEG", progressive=True))
    made.append(_saved(plain.convert("P"), "PNG"))
    return [body for body in made if body]


def _saved(image: Image.Image, format: str, **parameters: object) -> bytes:
    buffer = io.BytesIO()
    with contextlib.suppress(KeyError, OSError):  # a Pillow built without it
        image.save(buffer, format, **parameters)
    return buffer.getvalue()
