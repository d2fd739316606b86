"""Making thumbnails before anybody asks for them."""
