"""The formats of pictures, each in a package of its own."""
