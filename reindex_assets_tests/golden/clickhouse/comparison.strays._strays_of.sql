SELECT
    customer,
    profile,
    id, template_type,
    day, countIf(is_scorecard = 1) AS scorecards,
    countIf(is_scorecard = 0) AS scores
FROM (
    SELECT *
    FROM (
        SELECT customer, profile, toString(scorecard_id) AS id, template_type, day, 0 AS is_scorecard
        FROM score
        WHERE customer IN {customers:Array(String)}
          AND (
              NOT has({limited:Array(String)}, customer)
              OR has({profiles:Array(String)}, concat(customer, '/', profile))
          )
          AND template_type NOT IN (1, 2)
        ORDER BY day DESC, customer, profile, scorecard_id
        LIMIT 20000
    )
    UNION ALL
    SELECT *
    FROM (
        SELECT customer, profile, toString(scorecard_id) AS id, template_type, day, 0 AS is_scorecard
        FROM score
        WHERE customer IN {customers:Array(String)}
          AND (
              NOT has({limited:Array(String)}, customer)
              OR has({profiles:Array(String)}, concat(customer, '/', profile))
          )
          AND NOT (template_type NOT IN (1, 2))
          AND day > {today:Date32}
        ORDER BY day DESC, customer, profile, scorecard_id
        LIMIT 20000
    )
    UNION ALL
    SELECT *
    FROM (
        SELECT customer, profile, toString(scorecard_id) AS id, template_type, day, 0 AS is_scorecard
        FROM score
        WHERE customer IN {customers:Array(String)}
          AND (
              NOT has({limited:Array(String)}, customer)
              OR has({profiles:Array(String)}, concat(customer, '/', profile))
          )
          AND NOT (template_type NOT IN (1, 2))
          AND day < {first_day:Date32}
        ORDER BY day DESC, customer, profile, scorecard_id
        LIMIT 20000
    )
    UNION ALL
    SELECT *
    FROM (
        SELECT customer, profile, toString(scorecard_id) AS id, template_type, day, 1 AS is_scorecard
        FROM scorecard
        WHERE customer IN {customers:Array(String)}
          AND (
              NOT has({limited:Array(String)}, customer)
              OR has({profiles:Array(String)}, concat(customer, '/', profile))
          )
          AND template_type NOT IN (1, 2)
        ORDER BY day DESC, customer, profile, scorecard_id
        LIMIT 20000
    )
    UNION ALL
    SELECT *
    FROM (
        SELECT customer, profile, toString(scorecard_id) AS id, template_type, day, 1 AS is_scorecard
        FROM scorecard
        WHERE customer IN {customers:Array(String)}
          AND (
              NOT has({limited:Array(String)}, customer)
              OR has({profiles:Array(String)}, concat(customer, '/', profile))
          )
          AND NOT (template_type NOT IN (1, 2))
          AND day > {today:Date32}
        ORDER BY day DESC, customer, profile, scorecard_id
        LIMIT 20000
    )
    UNION ALL
    SELECT *
    FROM (
        SELECT customer, profile, toString(scorecard_id) AS id, template_type, day, 1 AS is_scorecard
        FROM scorecard
        WHERE customer IN {customers:Array(String)}
          AND (
              NOT has({limited:Array(String)}, customer)
              OR has({profiles:Array(String)}, concat(customer, '/', profile))
          )
          AND NOT (template_type NOT IN (1, 2))
          AND day < {first_day:Date32}
        ORDER BY day DESC, customer, profile, scorecard_id
        LIMIT 20000
    )
)
GROUP BY customer, profile, id, template_type, day
