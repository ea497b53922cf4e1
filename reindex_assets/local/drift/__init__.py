"""Planting known faults into ClickHouse, for demonstrations and tests."""
