"""Noticing that something has changed, and deciding what to repair."""
