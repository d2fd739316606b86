"""Requests to HTTP servers, at allowed addresses only."""
