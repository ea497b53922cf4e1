INSERT INTO reindex_layout (
    layout_id, cluster, state, shard, shards, next_shard, next_shards, members, version
)
SELECT
    {layout_id:UUID},
    {cluster:String},
    {state:String},
    {shard:Int32},
    {shards:Int32},
    {next_shard:Int32},
    {next_shards:Int32},
    {members:Int32},
    {version:UInt64}
