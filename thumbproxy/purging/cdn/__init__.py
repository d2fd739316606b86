"""CDNs that are notified of purges."""
