"""The local stack: a real Postgres and real ClickHouse shards, as processes on this machine."""
