"""The rules of HTTP: caching, negotiation, conditional requests, framing."""
