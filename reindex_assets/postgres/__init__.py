"""Reading Postgres, in read-only transactions. Nothing here knows ClickHouse."""
