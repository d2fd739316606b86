"""WebP."""

from __future__ import annotations

from thumbproxy.core.formats import Format
from thumbproxy.imaging.codecs.base import Codec, Decoder, Encoder
from thumbproxy.imaging.codecs.plugins import can_save
from thumbproxy.imaging.codecs.webp.decode import decode_webp
from thumbproxy.imaging.codecs.webp.encode import (
    GROWTH,
    animate_webp,
    encode_webp,
    encode_webp_exactly,
)
from thumbproxy.imaging.codecs.webp.frames import webp_frames
from thumbproxy.imaging.codecs.webp.header import read_webp

_ENCODER = Encoder(encode_webp, encode_webp_exactly, animate_webp, GROWTH)

CODEC = Codec(
    format=Format.WEBP,
    recognises=Format.WEBP.begins,
    read_header=read_webp,
    decoder=Decoder(decode_webp, webp_frames),
    encoder=_ENCODER if can_save("WEBP") else None,
)
