"""The ClickHouse shards: connections, tables, staging, inserts and deletes. Nothing here knows Postgres."""
