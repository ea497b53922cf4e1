INSERT INTO scorecard (
    customer,
    profile,
    template_type,
    scorecard_id,
    template_id,
    template_revision_id,
    conversation_id,
    agent_user_id,
    creator_user_id,
    submission_source,
    scorecard_time,
    created_at,
    updated_at,
    submitted_at,
    score, version
)
SELECT
    customer,
    profile,
    template_type,
    scorecard_id,
    template_id,
    template_revision_id,
    conversation_id,
    agent_user_id,
    creator_user_id,
    submission_source,
    scorecard_time,
    created_at,
    updated_at,
    submitted_at,
    score, {snapshot:UInt64}
FROM `reindex_staging_{owner}_{group}_scorecard`
WHERE (customer, day, profile, scorecard_id) IN (
    SELECT customer, day, profile, scorecard_id
    FROM `reindex_staging_{owner}_{group}_scorecard_difference`
    WHERE is_upsert
)
