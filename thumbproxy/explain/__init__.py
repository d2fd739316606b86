"""Explains a URL: its meaning, what is stored for it, and what a request would get now."""
