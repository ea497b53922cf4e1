"""On which shard a row belongs, and which shard is which."""
