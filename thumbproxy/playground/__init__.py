"""Something to look at without configuration: sample pictures and a gallery page."""

from thumbproxy.playground.app import GalleryApp
from thumbproxy.playground.folder import list_pictures
from thumbproxy.playground.page import gallery
from thumbproxy.playground.samples import make_samples

__all__ = ["GalleryApp", "gallery", "list_pictures", "make_samples"]
