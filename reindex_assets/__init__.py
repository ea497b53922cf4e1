"""Keeps ClickHouse's scorecards exactly true to Postgres, customer by customer, day by day, shard by shard."""
