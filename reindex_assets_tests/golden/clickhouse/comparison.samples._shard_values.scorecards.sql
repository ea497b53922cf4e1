SELECT
    toString(customer) AS key_customer,
    toString(profile) AS key_profile,
    toString(scorecard_id) AS key_scorecard_id,
    version AS key_version,
    concat(toString(length(customer)), ':', customer) AS text_customer,
    concat(toString(length(profile)), ':', profile) AS text_profile,
    toString(template_type) AS text_template_type,
    toString(scorecard_id) AS text_scorecard_id,
    toString(template_id) AS text_template_id,
    toString(template_revision_id) AS text_template_revision_id,
    concat(toString(length(conversation_id)), ':', conversation_id) AS text_conversation_id,
    ifNull(concat(toString(length(agent_user_id)), ':', agent_user_id), '~') AS text_agent_user_id,
    ifNull(concat(toString(length(creator_user_id)), ':', creator_user_id), '~') AS text_creator_user_id,
    ifNull(toString(submission_source), '~') AS text_submission_source,
    leftPad(
        lower(hex(reinterpretAsUInt64(toUnixTimestamp64Micro(scorecard_time) - 946684800000000))), 16, '0'
    ) AS text_scorecard_time,
    leftPad(
        lower(hex(reinterpretAsUInt64(toUnixTimestamp64Micro(created_at) - 946684800000000))), 16, '0'
    ) AS text_created_at,
    leftPad(
        lower(hex(reinterpretAsUInt64(toUnixTimestamp64Micro(updated_at) - 946684800000000))), 16, '0'
    ) AS text_updated_at,
    ifNull(
        leftPad(
            lower(hex(reinterpretAsUInt64(toUnixTimestamp64Micro(submitted_at) - 946684800000000))), 16, '0'
        ),
        '~'
    ) AS text_submitted_at,
    ifNull(leftPad(lower(hex(reinterpretAsUInt64(score))), 16, '0'), '~') AS text_score
FROM scorecard
WHERE customer IN {customers:Array(String)}
  AND (
      NOT has({limited:Array(String)}, customer)
      OR has({profiles:Array(String)}, concat(customer, '/', profile))
  )
  AND template_type = {template_type:UInt8}
  AND day IN {days:Array(Date32)}
  AND (customer, profile, scorecard_id, version) IN {keys:Array(Tuple(String, String, UUID, UInt64))}
