SELECT
    customer,
    multiIf(
        NOT customer IN {customers:Array(String)},
        'the customer is not in the fleet file',
        NOT (
            NOT has({limited:Array(String)}, customer)
            OR has({profiles:Array(String)}, concat(customer, '/', profile))
        ),
        'the profile is not in the fleet file',
        NOT (template_type IN {kinds:Array(UInt8)}),
        'its template type is none of ours',
        day < {first_day:Date32},
        'before first_day',
        'after today'
    ) AS reason,
    min(day) AS first,
    max(day) AS last,
    count() AS found
FROM scorecard
WHERE NOT (
    customer IN {customers:Array(String)}
    AND (
        NOT has({limited:Array(String)}, customer)
        OR has({profiles:Array(String)}, concat(customer, '/', profile))
    )
    AND day IN {days:Array(Date32)}
    AND template_type IN {kinds:Array(UInt8)}
)
  AND (
      {retires:Bool}
      OR positiveModulo(
          intDiv(
              toUnixTimestamp64Micro(scorecard_time) - positiveModulo(
                  toUnixTimestamp64Micro(scorecard_time), 1000000
              ),
              1000000
          ),
          2
      ) != {shard:UInt16}
  )
  AND NOT (
      template_type IN {of_conversations:Array(UInt8)}
      AND NOT {retires:Bool}
      AND (customer, profile, conversation_id) IN (
          SELECT customer, profile, conversation_id FROM conversation
      )
  )
GROUP BY customer, reason
