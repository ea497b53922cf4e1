SELECT 1 AS found
FROM scorecard
WHERE customer IN {customers:Array(String)}
  AND (
      NOT has({limited:Array(String)}, customer)
      OR has({profiles:Array(String)}, concat(customer, '/', profile))
  )
  AND NOT (template_type = {template_type:UInt8} AND day IN {days:Array(Date32)})
  AND version < {snapshot:UInt64}
  AND true
LIMIT 1
