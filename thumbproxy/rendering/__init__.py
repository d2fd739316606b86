"""Runs an engine in threads of this process, or in processes of their own."""
