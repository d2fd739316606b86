"""The configuration: one schema, read from a file, the environment and arguments."""
