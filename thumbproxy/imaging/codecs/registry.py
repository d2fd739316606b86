"""All codecs. A format that has an entry in `formats` and a package here is added by a line."""

from __future__ import annotations

from collections.abc import Mapping

from thumbproxy.core.errors import BrokenImage, UnsupportedImage
from thumbproxy.core.formats import Format
from thumbproxy.imaging.codecs import avif, gif, jpeg, png, webp
from thumbproxy.imaging.codecs.base import Codec, Decoder, Encoder

CODECS: Mapping[Format, Codec] = {
    codec.format: codec for codec in (jpeg.CODEC, png.CODEC, webp.CODEC, avif.CODEC, gif.CODEC)
}


def codec_for(source: bytes) -> Codec:
    """By the first bytes alone, never by a name or a content type.

    Raises UnsupportedImage when they are of no format that can be read here.
    """
    for codec in CODECS.values():
        if codec.recognises(source):
            if codec.decoder is None:
                raise UnsupportedImage(f"This server cannot read {codec.format.name}.")
            return codec
    raise UnsupportedImage


def decoder_of(format: Format) -> Decoder:
    decoder = CODECS[format].decoder
    if decoder is None:
        raise BrokenImage(log=f"no decoder for {format.name}")
    return decoder


def encoder_of(format: Format) -> Encoder:
    """Raises KeyError for what cannot be written here."""
    encoder = CODECS[format].encoder
    if encoder is None:
        raise KeyError(format)
    return encoder


def written() -> frozenset[Format]:
    """The formats that this installation can write."""
    return frozenset(format for format, codec in CODECS.items() if codec.encoder is not None)
