"""Caches: where finished renditions and sources are kept."""
