"""Hits of thumbproxy beside other servers: `python -m benchmarks.serving`."""
