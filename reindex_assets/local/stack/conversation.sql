-- The product's conversations, on each shard. Only the local stack and the tests run this file: in production the table exists, and
-- this project only reads it.

CREATE TABLE IF NOT EXISTS conversation
(
    customer LowCardinality(String),
    profile LowCardinality(String),
    conversation_id String,
    conversation_start_time DateTime64(6, 'UTC'),
    agent_user_id LowCardinality(Nullable(String)),
    version UInt64 DEFAULT toUnixTimestamp64Micro(now64(6))
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(conversation_start_time)
ORDER BY (customer, profile, conversation_id)
