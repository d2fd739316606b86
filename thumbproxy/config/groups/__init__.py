"""The settings, in groups by purpose."""
