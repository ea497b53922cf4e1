SELECT
    customer,
    day, toInt32(positiveModulo(
        intDiv(
            toUnixTimestamp64Micro(scorecard_time) - positiveModulo(
                toUnixTimestamp64Micro(scorecard_time), 1000000
            ),
            1000000
        ),
        2
    )) AS belongs,
    count() AS found
FROM score
WHERE customer IN {customers:Array(String)}
  AND (
      NOT has({limited:Array(String)}, customer)
      OR has({profiles:Array(String)}, concat(customer, '/', profile))
  )
  AND template_type = {template_type:UInt8}
  AND day IN {days:Array(Date32)}
GROUP BY customer, day, belongs
