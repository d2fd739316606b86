"""Limits on concurrent work, queues, coalescing and leases."""
