"""A reindex: reads groups of slices from Postgres, compares them on each shard, and writes the difference."""
