"""WebP stills straight from libwebp: Pillow has every WebP put together as an animation.

That takes twice the time and three times the memory. The library is the one that Pillow has
loaded, found through Pillow's own module; where it does not let itself be found, Pillow decodes.
"""

from __future__ import annotations

import ctypes
import io

import numpy as np
from PIL import Image

from thumbproxy.core.errors import BrokenImage
from thumbproxy.imaging.codecs.base import Decoded
from thumbproxy.imaging.codecs.header import Header
from thumbproxy.imaging.codecs.modes import resizable
from thumbproxy.imaging.codecs.plugins import check_size
from thumbproxy.imaging.codecs.still import decoded
from thumbproxy.imaging.geometry import Plan
from thumbproxy.imaging.scratch import Memory, borrow, give_back

try:
    from PIL import _webp

    # Its symbols are those of the libraries that it is linked with.
    _library = ctypes.CDLL(_webp.__file__)
    _get_info = _library.WebPGetInfo
    _decode_into = _library.WebPDecodeRGBAInto
except (ImportError, OSError, AttributeError):
    available = False
else:
    available = True
    # libwebp's decode.h, unchanged since its first release.
    _int_pointer = ctypes.POINTER(ctypes.c_int)
    _get_info.argtypes = [ctypes.c_char_p, ctypes.c_size_t, _int_pointer, _int_pointer]
    _get_info.restype = ctypes.c_int
    _decode_into.argtypes = [
        ctypes.c_char_p,
        ctypes.c_size_t,
        ctypes.c_void_p,
        ctypes.c_size_t,
        ctypes.c_int,
    ]
    _decode_into.restype = ctypes.c_void_p


def decode_webp(source: bytes, header: Header, plan: Plan) -> Decoded:
    """A still WebP. Raises BrokenImage, and what Pillow raises."""
    if not available:
        with Image.open(io.BytesIO(source), formats=("WEBP",)) as file:
            check_size(file, header)
            file.load()
            return decoded(resizable(file), header)
    memory = borrow(header.width * (header.height + 1) * 4)
    try:
        image = _by_libwebp(source, header, memory)
    except BrokenImage:
        give_back(memory)
        raise
    if image.mode == "RGBA" and image.getchannel("A").getextrema()[0] == 255:
        image = Image.frombuffer("RGBX", image.size, memory, "raw", "RGBX", 0, 1)
    return Decoded(image, icc=header.icc, lease=memory)


def _by_libwebp(source: bytes, header: Header, memory: Memory) -> Image.Image:
    """RGBA, or RGBX without alpha, in `memory`: width * height * 4 bytes at least."""
    width, height = header.width, header.height
    across, down = ctypes.c_int(), ctypes.c_int()
    if not _get_info(source, len(source), ctypes.byref(across), ctypes.byref(down)):
        raise BrokenImage(log="libwebp reads no header")
    if (across.value, down.value) != (width, height):
        # Two readers disagree about the size, and only one of them was held to the limits.
        raise BrokenImage(log=f"libwebp reads {across.value} x {down.value}")
    size = width * height * 4
    pixels = np.ndarray((size,), np.uint8, memory)
    if not _decode_into(source, len(source), pixels.ctypes.data, size, width * 4):
        raise BrokenImage(log="libwebp refuses it")
    mode = "RGBA" if header.has_alpha else "RGBX"
    return Image.frombuffer(mode, (width, height), pixels, "raw", mode, 0, 1)
