"""Questions to HTTP servers, to addresses that are allowed."""
