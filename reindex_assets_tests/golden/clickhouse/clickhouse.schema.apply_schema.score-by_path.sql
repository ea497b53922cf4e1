CREATE TABLE IF NOT EXISTS score (
    customer LowCardinality(String),
    profile LowCardinality(String),
    template_type UInt8,
    scorecard_id UUID,
    template_id UUID,
    template_revision_id UUID,
    conversation_id String,
    agent_user_id LowCardinality(Nullable(String)),
    scorecard_time DateTime64(6, 'UTC'),
    score_id UUID,
    criterion_id LowCardinality(String),
    numeric_value Nullable(Float64),
    ai_value Nullable(Float64),
    text_value Nullable(String),
    weight Nullable(Float64),
    percentage Nullable(Float64),
    not_applicable Bool,
    auto_failed Bool,
    comment Nullable(String),
    day Date32 MATERIALIZED toDate32(scorecard_time),
    version UInt64 DEFAULT toUnixTimestamp64Micro(now64(6))
)
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}', version)
PARTITION BY toYYYYMM(scorecard_time)
ORDER BY (customer, template_type, day, profile, scorecard_id, score_id)
COMMENT 'reindex_assets schema 1'
