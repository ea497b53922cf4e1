"""Which shard a row belongs on, and which shard is which."""
