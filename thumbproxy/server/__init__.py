"""The standalone server: gunicorn with a worker of its own, set up for images."""
