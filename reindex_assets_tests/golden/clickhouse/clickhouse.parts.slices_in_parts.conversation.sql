SELECT DISTINCT customer, toDate32(conversation_start_time) AS day
FROM conversation
WHERE customer IN {customers:Array(String)}
  AND (
      NOT has({limited:Array(String)}, customer)
      OR has({profiles:Array(String)}, concat(customer, '/', profile))
  )
  AND _part IN {parts:Array(String)}
