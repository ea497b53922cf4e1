CREATE TABLE IF NOT EXISTS reindex_staging_{owner}_{group}_canary (
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
    day Date32 MATERIALIZED toDate32(scorecard_time),
    version UInt64 DEFAULT toUnixTimestamp64Micro(now64(6))
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(scorecard_time)
ORDER BY (customer, template_type, day, profile, scorecard_id)
COMMENT 'reindex_assets schema 1'
