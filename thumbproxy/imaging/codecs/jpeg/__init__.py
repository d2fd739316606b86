"""JPEG."""

from __future__ import annotations

from thumbproxy.core.formats import Format
from thumbproxy.imaging.codecs.base import Codec, Decoder, Encoder
from thumbproxy.imaging.codecs.jpeg.decode import decode_jpeg
from thumbproxy.imaging.codecs.jpeg.encode import GROWTH, encode_jpeg
from thumbproxy.imaging.codecs.jpeg.header import read_jpeg

CODEC = Codec(
    format=Format.JPEG,
    recognises=Format.JPEG.begins,
    read_header=read_jpeg,
    decoder=Decoder(decode_jpeg),
    encoder=Encoder(lossy=encode_jpeg, growth=GROWTH),
)
