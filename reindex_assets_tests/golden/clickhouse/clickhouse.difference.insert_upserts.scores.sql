INSERT INTO score (
    customer,
    profile,
    template_type,
    scorecard_id,
    template_id,
    template_revision_id,
    conversation_id,
    agent_user_id,
    scorecard_time,
    score_id,
    criterion_id,
    numeric_value,
    ai_value,
    text_value,
    weight,
    percentage,
    not_applicable,
    auto_failed,
    comment,
    version
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
    scorecard_time,
    score_id,
    criterion_id,
    numeric_value,
    ai_value,
    text_value,
    weight,
    percentage,
    not_applicable,
    auto_failed,
    comment,
    {snapshot:UInt64}
FROM `reindex_staging_{owner}_{group}_score`
WHERE (customer, day, profile, scorecard_id, score_id) IN (
    SELECT customer, day, profile, scorecard_id, score_id
    FROM `reindex_staging_{owner}_{group}_score_difference`
    WHERE is_upsert
)
