"""Caches: where renditions, records and the bytes of sources are stored."""
