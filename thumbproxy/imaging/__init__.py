"""Engines: encoded pictures in, encoded pictures out."""
