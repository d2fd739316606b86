"""From a verified request to a rendition, each piece of work done once."""
