SELECT
    customer,
    day, toString(template_id) AS template_id,
    count() AS found,
    countIf(
        positiveModulo(
            intDiv(
                toUnixTimestamp64Micro(scorecard_time) - positiveModulo(
                    toUnixTimestamp64Micro(scorecard_time), 1000000
                ),
                1000000
            ),
            2
        ) != {shard:UInt16}
    ) AS misplaced
FROM scorecard
WHERE customer IN {customers:Array(String)}
  AND (
      NOT has({limited:Array(String)}, customer)
      OR has({profiles:Array(String)}, concat(customer, '/', profile))
  )
  AND template_type = {template_type:UInt8}
  AND day IN {days:Array(Date32)}
GROUP BY customer, day, scorecard.template_id
