"""PNG, and APNG as a source."""

from __future__ import annotations

from thumbproxy.core.formats import Format
from thumbproxy.imaging.codecs.base import Codec, Decoder, Encoder
from thumbproxy.imaging.codecs.png.decode import decode_png
from thumbproxy.imaging.codecs.png.encode import encode_png
from thumbproxy.imaging.codecs.png.frames import png_frames
from thumbproxy.imaging.codecs.png.header import read_png

CODEC = Codec(
    format=Format.PNG,
    recognises=Format.PNG.begins,
    read_header=read_png,
    decoder=Decoder(decode_png, png_frames),
    encoder=Encoder(exact=encode_png),
)
