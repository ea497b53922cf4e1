"""Launching runs and backfills, and reading how far they are."""
