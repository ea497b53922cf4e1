"""Every statement that is sent to Postgres and to ClickHouse, in full."""
