"""Tests of clickhouse."""
