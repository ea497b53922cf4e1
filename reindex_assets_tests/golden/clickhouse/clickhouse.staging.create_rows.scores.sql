CREATE TABLE `reindex_staging_{owner}_{group}_score` (
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
    day Date32 MATERIALIZED toDate32(scorecard_time)
)
ENGINE = MergeTree
ORDER BY tuple()
