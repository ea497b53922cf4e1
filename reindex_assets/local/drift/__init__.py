"""Planting known drift in ClickHouse, for demonstrations and tests."""
