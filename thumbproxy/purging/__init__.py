"""Removing what is stored of a source, on all tiers, hosts and CDNs."""
