CREATE TABLE `reindex_staging_{owner}_{group}_score_difference`
ENGINE = MergeTree
ORDER BY tuple() AS
SELECT
    customer,
    day, profile,
    scorecard_id,
    score_id,
    max(staged) AS is_staged,
    countIf(staged = 0) AS live_rows,
    minIf(version, staged = 0) AS oldest,
    maxIf(version, staged = 0) AS newest,
    min(digest) = max(digest) AS is_equal,
    is_staged
AND live_rows > 1 AS is_copied, is_staged
AND NOT is_copied
AND (live_rows = 0 OR newest < {snapshot:UInt64}) AS is_upsert,
if(NOT is_copied AND live_rows > 0 AND oldest < {snapshot:UInt64}, {snapshot:UInt64}, 0) AS delete_below
FROM (
    SELECT
        customer,
        day, profile,
        scorecard_id,
        score_id,
        sipHash128(
            template_id,
            template_revision_id,
            conversation_id,
            isNull(agent_user_id),
            ifNull(agent_user_id, defaultValueOfTypeName('String')),
            scorecard_time,
            criterion_id,
            isNull(numeric_value),
            reinterpretAsUInt64(ifNull(numeric_value, defaultValueOfTypeName('Float64'))),
            isNull(ai_value),
            reinterpretAsUInt64(ifNull(ai_value, defaultValueOfTypeName('Float64'))),
            isNull(text_value),
            ifNull(text_value, defaultValueOfTypeName('String')),
            isNull(weight),
            reinterpretAsUInt64(ifNull(weight, defaultValueOfTypeName('Float64'))),
            isNull(percentage),
            reinterpretAsUInt64(ifNull(percentage, defaultValueOfTypeName('Float64'))),
            not_applicable,
            auto_failed,
            isNull(comment),
            ifNull(comment, defaultValueOfTypeName('String'))
        ) AS digest,
        toUInt64(0) AS version,
        1 AS staged
    FROM `reindex_staging_{owner}_{group}_score`
    WHERE true
    UNION ALL
    SELECT
        customer,
        day, profile,
        scorecard_id,
        score_id,
        sipHash128(
            template_id,
            template_revision_id,
            conversation_id,
            isNull(agent_user_id),
            ifNull(agent_user_id, defaultValueOfTypeName('String')),
            scorecard_time,
            criterion_id,
            isNull(numeric_value),
            reinterpretAsUInt64(ifNull(numeric_value, defaultValueOfTypeName('Float64'))),
            isNull(ai_value),
            reinterpretAsUInt64(ifNull(ai_value, defaultValueOfTypeName('Float64'))),
            isNull(text_value),
            ifNull(text_value, defaultValueOfTypeName('String')),
            isNull(weight),
            reinterpretAsUInt64(ifNull(weight, defaultValueOfTypeName('Float64'))),
            isNull(percentage),
            reinterpretAsUInt64(ifNull(percentage, defaultValueOfTypeName('Float64'))),
            not_applicable,
            auto_failed,
            isNull(comment),
            ifNull(comment, defaultValueOfTypeName('String'))
        ) AS digest,
        version,
        0 AS staged
    FROM score
    WHERE customer IN {customers:Array(String)}
      AND (
          NOT has({limited:Array(String)}, customer)
          OR has({profiles:Array(String)}, concat(customer, '/', profile))
      )
      AND template_type = {template_type:UInt8}
      AND day IN {days:Array(Date32)}
      AND true
)
GROUP BY customer, day, profile, scorecard_id, score_id
HAVING NOT (is_staged AND live_rows = 1 AND is_equal)
