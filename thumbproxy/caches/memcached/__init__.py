"""The cache that hosts share."""
