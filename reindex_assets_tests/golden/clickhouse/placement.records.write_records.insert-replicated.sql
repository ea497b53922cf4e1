INSERT INTO reindex_layout (
    layout_id, cluster, state, shard, shards, next_shard, next_shards, members, version
) SETTINGS insert_quorum = 'auto',
insert_quorum_parallel = 0
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
