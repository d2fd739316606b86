"""The foundation of all packages: errors, limits, formats, and the values of a request."""
