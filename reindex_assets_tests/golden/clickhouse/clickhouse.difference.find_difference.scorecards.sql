CREATE TABLE `reindex_staging_{owner}_{group}_scorecard_difference`
ENGINE = MergeTree
ORDER BY tuple() AS
SELECT
    customer,
    day, profile,
    scorecard_id,
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
        sipHash128(
            template_id,
            template_revision_id,
            conversation_id,
            isNull(agent_user_id),
            ifNull(agent_user_id, defaultValueOfTypeName('String')),
            isNull(creator_user_id),
            ifNull(creator_user_id, defaultValueOfTypeName('String')),
            isNull(submission_source),
            ifNull(submission_source, defaultValueOfTypeName('Int16')),
            scorecard_time,
            created_at,
            updated_at,
            isNull(submitted_at),
            ifNull(submitted_at, defaultValueOfTypeName('DateTime64(6, \'UTC\')')),
            isNull(score),
            reinterpretAsUInt64(ifNull(score, defaultValueOfTypeName('Float64')))
        ) AS digest,
        toUInt64(0) AS version,
        1 AS staged
    FROM `reindex_staging_{owner}_{group}_scorecard`
    WHERE true
    UNION ALL
    SELECT
        customer,
        day, profile,
        scorecard_id,
        sipHash128(
            template_id,
            template_revision_id,
            conversation_id,
            isNull(agent_user_id),
            ifNull(agent_user_id, defaultValueOfTypeName('String')),
            isNull(creator_user_id),
            ifNull(creator_user_id, defaultValueOfTypeName('String')),
            isNull(submission_source),
            ifNull(submission_source, defaultValueOfTypeName('Int16')),
            scorecard_time,
            created_at,
            updated_at,
            isNull(submitted_at),
            ifNull(submitted_at, defaultValueOfTypeName('DateTime64(6, \'UTC\')')),
            isNull(score),
            reinterpretAsUInt64(ifNull(score, defaultValueOfTypeName('Float64')))
        ) AS digest,
        version,
        0 AS staged
    FROM scorecard
    WHERE customer IN {customers:Array(String)}
      AND (
          NOT has({limited:Array(String)}, customer)
          OR has({profiles:Array(String)}, concat(customer, '/', profile))
      )
      AND template_type = {template_type:UInt8}
      AND day IN {days:Array(Date32)}
      AND true
)
GROUP BY customer, day, profile, scorecard_id
HAVING NOT (is_staged AND live_rows = 1 AND is_equal)
