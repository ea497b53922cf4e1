"""The tests: every one that touches data runs on a real Postgres and real ClickHouse engines."""
