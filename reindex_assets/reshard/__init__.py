"""Moving a cluster's rows to another list of shards."""
