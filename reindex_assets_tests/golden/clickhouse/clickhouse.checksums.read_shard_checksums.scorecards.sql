SELECT
    customer,
    day, sum(cityHash64(
        customer,
        profile,
        template_type,
        scorecard_id,
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
        reinterpretAsUInt64(ifNull(score, defaultValueOfTypeName('Float64'))),
        version
    )) AS mark
FROM scorecard
WHERE customer IN {customers:Array(String)}
  AND (
      NOT has({limited:Array(String)}, customer)
      OR has({profiles:Array(String)}, concat(customer, '/', profile))
  )
  AND template_type = {template_type:UInt8}
  AND day IN {days:Array(Date32)}
GROUP BY customer, day
