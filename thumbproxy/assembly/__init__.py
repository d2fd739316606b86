"""The object graph: settings in, a site out. It alone knows which implementations there are."""
