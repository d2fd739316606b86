"""Something to look at without configuration: sample pictures and a gallery page."""

from thumbproxy.demo.app import GalleryApp
from thumbproxy.demo.folder import list_pictures
from thumbproxy.demo.page import gallery
from thumbproxy.demo.samples import make_samples

__all__ = ["GalleryApp", "gallery", "list_pictures", "make_samples"]
