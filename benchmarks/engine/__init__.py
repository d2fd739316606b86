"""Our engine beside others: `python -m benchmarks.engine FOLDER`."""
