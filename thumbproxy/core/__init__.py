"""What all parts are made with: errors, limits, formats, the values of a request."""
