SELECT
    customer,
    day, profile,
    conversation_id,
    toInt32(positiveModulo(
        intDiv(
            toUnixTimestamp64Micro(scorecard_time) - positiveModulo(
                toUnixTimestamp64Micro(scorecard_time), 1000000
            ),
            1000000
        ),
        2
    )) AS shard,
    toInt64(count()) AS found
FROM score
WHERE customer IN {customers:Array(String)}
  AND (
      NOT has({limited:Array(String)}, customer)
      OR has({profiles:Array(String)}, concat(customer, '/', profile))
  )
  AND template_type = {template_type:UInt8}
  AND day IN {days:Array(Date32)}
  AND (
      {retires:Bool}
      OR (
          (customer, profile, conversation_id) NOT IN (
              SELECT DISTINCT customer, profile, conversation_id
              FROM conversation
              WHERE customer IN {customers:Array(String)}
                AND (
                    NOT has({limited:Array(String)}, customer)
                    OR has({profiles:Array(String)}, concat(customer, '/', profile))
                )
                AND toDate32(conversation_start_time) BETWEEN {near_days:Array(Date32)}[1]
                AND {near_days:Array(Date32)}[-1]
                AND toDate32(conversation_start_time) IN {near_days:Array(Date32)}
          )
          OR conversation_id IN {several:Array(String)}
      )
  )
GROUP BY customer, day, profile, conversation_id, shard
