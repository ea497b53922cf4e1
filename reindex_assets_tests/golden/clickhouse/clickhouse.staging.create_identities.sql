CREATE TABLE `reindex_staging_{owner}_{group}_identities` (
    customer LowCardinality(String), profile LowCardinality(String), scorecard_id UUID
)
ENGINE = MergeTree
ORDER BY tuple()
