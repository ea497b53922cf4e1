SELECT
    customer,
    day, toString(template_id) AS template,
    count() AS found,
    uniqExact(customer, template_type, day, profile, scorecard_id, score_id) AS keys,
    countIf(
        positiveModulo(
            intDiv(
                toUnixTimestamp64Micro(scorecard_time) - positiveModulo(
                    toUnixTimestamp64Micro(scorecard_time), 1000000
                ),
                1000000
            ),
            2
        ) != {shard:UInt16}
    ) AS misplaced,
    sum(reinterpretAsInt64(reinterpretAsUInt64(reverse(substring(
        MD5(concat(
            toString(reinterpretAsInt64(reinterpretAsUInt64(reverse(substring(
                MD5(concat(
                    concat(toString(length(customer)), ':', customer),
                    ',', concat(toString(length(profile)), ':', profile),
                    ',', toString(template_type),
                    ',', toString(scorecard_id),
                    ',', toString(template_id),
                    ',', toString(template_revision_id),
                    ',', concat(toString(length(conversation_id)), ':', conversation_id),
                    ',', ifNull(concat(toString(length(agent_user_id)), ':', agent_user_id), '~'),
                    ',', leftPad(
                        lower(hex(reinterpretAsUInt64(
                            toUnixTimestamp64Micro(scorecard_time) - 946684800000000
                        ))),
                        16, '0'
                    )
                )),
                1, 8
            ))))),
            ',', toString(score_id),
            ',', concat(toString(length(criterion_id)), ':', criterion_id),
            ',', ifNull(leftPad(lower(hex(reinterpretAsUInt64(numeric_value))), 16, '0'), '~'),
            ',', ifNull(leftPad(lower(hex(reinterpretAsUInt64(ai_value))), 16, '0'), '~'),
            ',', ifNull(concat(toString(length(text_value)), ':', text_value), '~'),
            ',', ifNull(leftPad(lower(hex(reinterpretAsUInt64(weight))), 16, '0'), '~'),
            ',', ifNull(leftPad(lower(hex(reinterpretAsUInt64(percentage))), 16, '0'), '~'),
            ',', toString(not_applicable),
            ',', toString(auto_failed),
            ',', ifNull(concat(toString(length(comment)), ':', comment), '~')
        )),
        1, 8
    ))))) AS digest,
    sum(cityHash64(
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
    )) AS checksum
FROM score
WHERE customer IN {customers:Array(String)}
  AND (
      NOT has({limited:Array(String)}, customer)
      OR has({profiles:Array(String)}, concat(customer, '/', profile))
  )
  AND template_type = {template_type:UInt8}
  AND day IN {days:Array(Date32)}
GROUP BY customer, day, template_id
