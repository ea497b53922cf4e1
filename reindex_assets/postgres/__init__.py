"""Reading Postgres, in read-only transactions. Nothing here is about ClickHouse."""
