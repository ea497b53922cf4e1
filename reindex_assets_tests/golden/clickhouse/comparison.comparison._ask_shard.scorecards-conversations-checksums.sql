SELECT
    customer,
    day, toString(template_id) AS template,
    count() AS found,
    uniqExact(customer, template_type, day, profile, scorecard_id) AS keys,
    toUInt64(0) AS misplaced,
    sum(reinterpretAsInt64(reinterpretAsUInt64(reverse(substring(
        MD5(concat(
            concat(toString(length(customer)), ':', customer),
            ',', concat(toString(length(profile)), ':', profile),
            ',', toString(template_type),
            ',', toString(scorecard_id),
            ',', toString(template_id),
            ',', toString(template_revision_id),
            ',', concat(toString(length(conversation_id)), ':', conversation_id),
            ',', ifNull(concat(toString(length(agent_user_id)), ':', agent_user_id), '~'),
            ',', ifNull(concat(toString(length(creator_user_id)), ':', creator_user_id), '~'),
            ',', ifNull(toString(submission_source), '~'),
            ',', leftPad(
                lower(hex(reinterpretAsUInt64(toUnixTimestamp64Micro(scorecard_time) - 946684800000000))),
                16, '0'
            ),
            ',', leftPad(
                lower(hex(reinterpretAsUInt64(toUnixTimestamp64Micro(created_at) - 946684800000000))), 16, '0'
            ),
            ',', leftPad(
                lower(hex(reinterpretAsUInt64(toUnixTimestamp64Micro(updated_at) - 946684800000000))), 16, '0'
            ),
            ',', ifNull(
                leftPad(
                    lower(hex(reinterpretAsUInt64(toUnixTimestamp64Micro(submitted_at) - 946684800000000))),
                    16, '0'
                ),
                '~'
            ),
            ',', ifNull(leftPad(lower(hex(reinterpretAsUInt64(score))), 16, '0'), '~')
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
    )) AS checksum
FROM scorecard
WHERE customer IN {customers:Array(String)}
  AND (
      NOT has({limited:Array(String)}, customer)
      OR has({profiles:Array(String)}, concat(customer, '/', profile))
  )
  AND template_type = {template_type:UInt8}
  AND day IN {days:Array(Date32)}
GROUP BY customer, day, template_id
