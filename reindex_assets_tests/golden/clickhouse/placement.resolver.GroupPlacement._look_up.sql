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
