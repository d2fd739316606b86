"""Engines: from the bytes of a source to the bytes of a rendition."""
