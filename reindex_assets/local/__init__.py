"""The local stack: a real Postgres, real ClickHouse shards and made data, on loopback. Production never imports it."""
