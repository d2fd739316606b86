"""The checks of `thumbproxy doctor`."""
