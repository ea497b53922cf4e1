CREATE TABLE IF NOT EXISTS reindex_layout (
    layout_id UUID,
    cluster String,
    state LowCardinality(String),
    shard Int32,
    shards Int32,
    next_shard Int32,
    next_shards Int32,
    members Int32,
    version UInt64
)
ENGINE = ReplicatedMergeTree
ORDER BY version
COMMENT 'reindex_assets: where the rows of this shard belong. Written by reindex_assets alone'
