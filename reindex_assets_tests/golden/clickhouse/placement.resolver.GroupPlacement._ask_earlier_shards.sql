SELECT DISTINCT customer, profile, conversation_id
FROM conversation
WHERE customer IN {customers:Array(String)}
  AND (
      NOT has({limited:Array(String)}, customer)
      OR has({profiles:Array(String)}, concat(customer, '/', profile))
  )
  AND conversation_id IN {ids:Array(String)}
