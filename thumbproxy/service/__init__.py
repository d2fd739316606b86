"""A verified request in, a rendition out, each thing done once."""
