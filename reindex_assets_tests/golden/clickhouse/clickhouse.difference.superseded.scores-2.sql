SELECT
    customer,
    template_type,
    day, profile,
    scorecard_id,
    score_id,
    max(version) > {snapshot:UInt64} AS is_newer
FROM score
WHERE customer IN {customers:Array(String)}
  AND (
      NOT has({limited:Array(String)}, customer)
      OR has({profiles:Array(String)}, concat(customer, '/', profile))
  )
  AND template_type = {template_type:UInt8}
  AND day IN {days:Array(Date32)}
GROUP BY customer, template_type, day, profile, scorecard_id, score_id
HAVING min(version) <= {snapshot:UInt64}
  AND max(version) >= {snapshot:UInt64}
  AND min(version) < max(version)
