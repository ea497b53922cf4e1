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
        scorecard_time,
        score_id,
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
        ifNull(comment, defaultValueOfTypeName('String')),
        version
    )) AS mark
FROM score
WHERE customer IN {customers:Array(String)}
  AND (
      NOT has({limited:Array(String)}, customer)
      OR has({profiles:Array(String)}, concat(customer, '/', profile))
  )
  AND template_type = {template_type:UInt8}
  AND day IN {days:Array(Date32)}
GROUP BY customer, day
