CREATE TABLE `reindex_staging_{owner}_{group}_scorecard` (
    customer LowCardinality(String),
    profile LowCardinality(String),
    template_type UInt8,
    scorecard_id UUID,
    template_id UUID,
    template_revision_id UUID,
    conversation_id String,
    agent_user_id LowCardinality(Nullable(String)),
    creator_user_id LowCardinality(Nullable(String)),
    submission_source Nullable(Int16),
    scorecard_time DateTime64(6, 'UTC'),
    created_at DateTime64(6, 'UTC'),
    updated_at DateTime64(6, 'UTC'),
    submitted_at Nullable(DateTime64(6, 'UTC')),
    score Nullable(Float64),
    day Date32 MATERIALIZED toDate32(scorecard_time)
)
ENGINE = MergeTree
ORDER BY tuple()
