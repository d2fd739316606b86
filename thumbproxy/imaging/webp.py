"""WebP stills straight from libwebp: Pillow has every WebP put together as an animation.

That takes twice the time and three times the memory. The library is the one that Pillow has
loaded, found through Pillow's own module; where it does not let itself be found, Pillow decodes.
"""

from __future__ import annotations

import ctypes

import numpy as np
from PIL import Image

from thumbproxy.errors import BrokenImage
from thumbproxy.imaging.scratch import Memory

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


def decode_webp(
    source: bytes, width: int, height: int, memory: Memory, *, alpha: bool
) -> Image.Image:
    """A still WebP of that size as RGBA, or as RGBX without `alpha`, in `memory`.

    memory: width * height * 4 bytes at least. Raises BrokenImage.
    """
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
    mode = "RGBA" if alpha else "RGBX"
    return Image.frombuffer(mode, (width, height), pixels, "raw", mode, 0, 1)
