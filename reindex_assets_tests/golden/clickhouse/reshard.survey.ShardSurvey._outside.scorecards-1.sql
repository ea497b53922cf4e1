SELECT 1 AS found
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
LIMIT 1
