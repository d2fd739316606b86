"""The formats of images, each in a package of its own."""
