"""Launches runs and backfills, and reads their progress."""
