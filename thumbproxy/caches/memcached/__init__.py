"""The memcached tier, which hosts share."""
