"""Tests of reindex."""
