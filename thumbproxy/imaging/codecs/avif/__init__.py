"""AVIF: AV1 in HEIF's boxes."""

from __future__ import annotations

from thumbproxy.core.formats import Format
from thumbproxy.imaging.codecs.avif.decode import available, avif_frames, decode_avif
from thumbproxy.imaging.codecs.avif.encode import GROWTH, animate_avif, encode_avif
from thumbproxy.imaging.codecs.avif.header import is_avif, read_avif
from thumbproxy.imaging.codecs.base import Codec, Decoder, Encoder
from thumbproxy.imaging.codecs.plugins import can_save

CODEC = Codec(
    format=Format.AVIF,
    recognises=is_avif,
    read_header=read_avif,
    decoder=Decoder(decode_avif, avif_frames) if available() else None,
    encoder=Encoder(lossy=encode_avif, animation=animate_avif, growth=GROWTH)
    if can_save("AVIF")
    else None,
)
