"""The purge of appeals, which never belong in ClickHouse."""
