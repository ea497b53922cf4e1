INSERT INTO `reindex_staging_{owner}_{group}_score_difference`
SELECT
    customer,
    day, profile,
    scorecard_id,
    score_id,
    1 AS is_staged,
    sumIf(copies, staged = 0) AS live_rows,
    minIf(version, staged = 0) AS oldest,
    maxIf(version, staged = 0) AS newest,
    argMaxIf(copies, version, staged = 0) = 1
  AND argMaxIf(a_digest, version, staged = 0) = anyIf(a_digest, staged = 1) AS is_equal,
  0 AS is_copied,
  NOT is_equal
  AND newest < {snapshot:UInt64} AS is_upsert,
  if(
      oldest < if(is_equal, least(newest, {snapshot:UInt64}), {snapshot:UInt64}),
      if(is_equal, least(newest, {snapshot:UInt64}), {snapshot:UInt64}),
      0
  ) AS delete_below
FROM (
    SELECT
        customer,
        day, profile,
        scorecard_id,
        score_id,
        version,
        staged,
        count() AS copies,
        any(digest) AS a_digest
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
        WHERE (customer, day, profile, scorecard_id, score_id) IN (
            SELECT customer, day, profile, scorecard_id, score_id
            FROM `reindex_staging_{owner}_{group}_score_difference`
            WHERE is_copied
        )
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
          AND (customer, day, profile, scorecard_id, score_id) IN (
              SELECT customer, day, profile, scorecard_id, score_id
              FROM `reindex_staging_{owner}_{group}_score_difference`
              WHERE is_copied
          )
    )
    GROUP BY customer, day, profile, scorecard_id, score_id, version, staged
)
GROUP BY customer, day, profile, scorecard_id, score_id
