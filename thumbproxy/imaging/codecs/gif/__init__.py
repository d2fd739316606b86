"""GIF."""

from __future__ import annotations

from thumbproxy.core.formats import Format
from thumbproxy.imaging.codecs.base import Codec, Decoder, Encoder
from thumbproxy.imaging.codecs.gif.encode import animate_gif, encode_gif
from thumbproxy.imaging.codecs.gif.frames import gif_frames
from thumbproxy.imaging.codecs.gif.header import is_gif, read_gif

CODEC = Codec(
    format=Format.GIF,
    recognises=is_gif,
    read_header=read_gif,
    decoder=Decoder(frames=gif_frames),
    encoder=Encoder(exact=encode_gif, animation=animate_gif),
)
