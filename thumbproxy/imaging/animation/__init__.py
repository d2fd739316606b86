"""Animations: whole frames out of encoded ones, and encoded ones out of whole frames."""
