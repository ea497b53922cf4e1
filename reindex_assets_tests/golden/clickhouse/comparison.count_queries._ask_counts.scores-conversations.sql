SELECT customer, day, toString(template_id) AS template_id, count() AS found, toUInt64(0) AS misplaced
FROM score
WHERE customer IN {customers:Array(String)}
  AND (
      NOT has({limited:Array(String)}, customer)
      OR has({profiles:Array(String)}, concat(customer, '/', profile))
  )
  AND template_type = {template_type:UInt8}
  AND day IN {days:Array(Date32)}
GROUP BY customer, day, score.template_id
