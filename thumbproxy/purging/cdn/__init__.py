"""CDNs that are told of purges."""
