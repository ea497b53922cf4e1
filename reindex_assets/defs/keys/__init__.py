"""Names that Dagster stores: asset keys, partitions and tags. Changing one loses history."""
