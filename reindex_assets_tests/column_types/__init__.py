"""Tests of column_types."""
