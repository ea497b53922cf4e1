SELECT
    toString(customer) AS key_customer,
    toString(profile) AS key_profile,
    toString(scorecard_id) AS key_scorecard_id,
    toString(score_id) AS key_score_id,
    version AS key_version,
    concat(toString(length(customer)), ':', customer) AS text_customer,
    concat(toString(length(profile)), ':', profile) AS text_profile,
    toString(template_type) AS text_template_type,
    toString(scorecard_id) AS text_scorecard_id,
    toString(template_id) AS text_template_id,
    toString(template_revision_id) AS text_template_revision_id,
    concat(toString(length(conversation_id)), ':', conversation_id) AS text_conversation_id,
    ifNull(concat(toString(length(agent_user_id)), ':', agent_user_id), '~') AS text_agent_user_id,
    leftPad(
        lower(hex(reinterpretAsUInt64(toUnixTimestamp64Micro(scorecard_time) - 946684800000000))), 16, '0'
    ) AS text_scorecard_time,
    toString(score_id) AS text_score_id,
    concat(toString(length(criterion_id)), ':', criterion_id) AS text_criterion_id,
    ifNull(leftPad(lower(hex(reinterpretAsUInt64(numeric_value))), 16, '0'), '~') AS text_numeric_value,
    ifNull(leftPad(lower(hex(reinterpretAsUInt64(ai_value))), 16, '0'), '~') AS text_ai_value,
    ifNull(concat(toString(length(text_value)), ':', text_value), '~') AS text_text_value,
    ifNull(leftPad(lower(hex(reinterpretAsUInt64(weight))), 16, '0'), '~') AS text_weight,
    ifNull(leftPad(lower(hex(reinterpretAsUInt64(percentage))), 16, '0'), '~') AS text_percentage,
    toString(not_applicable) AS text_not_applicable,
    toString(auto_failed) AS text_auto_failed,
    ifNull(concat(toString(length(comment)), ':', comment), '~') AS text_comment
FROM score
WHERE customer IN {customers:Array(String)}
  AND (
      NOT has({limited:Array(String)}, customer)
      OR has({profiles:Array(String)}, concat(customer, '/', profile))
  )
  AND template_type = {template_type:UInt8}
  AND day IN {days:Array(Date32)}
  AND (
      customer, profile, scorecard_id, score_id, version
  ) IN {keys:Array(Tuple(String, String, UUID, UUID, UInt64))}
