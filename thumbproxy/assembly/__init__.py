"""Builds all objects from the settings. Only this package knows the concrete implementations."""
