CREATE TABLE `reindex_staging_{owner}_{group}_appeals` (
    customer LowCardinality(String),
    profile LowCardinality(String),
    scorecard_id UUID,
    scorecard_type UInt8,
    is_asked Bool
)
ENGINE = MergeTree
ORDER BY tuple()
