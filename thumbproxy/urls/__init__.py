"""The grammar of URLs: options, signatures, sources. The standard library alone."""
