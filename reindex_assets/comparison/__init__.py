"""Comparing both engines: by counts, by digests, and row by row. Nothing here writes to either."""
