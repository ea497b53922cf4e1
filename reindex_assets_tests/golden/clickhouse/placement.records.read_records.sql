SELECT
    toString(layout_id) AS layout_id,
    cluster,
    state, shard, shards,
    next_shard,
    next_shards,
    members,
    version
FROM reindex_layout
ORDER BY reindex_layout.version DESC
LIMIT 1 SETTINGS select_sequential_consistency = 1
