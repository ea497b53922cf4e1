SELECT c.customer, (c.process_interaction_at AT TIME ZONE 'UTC')::date AS day, count(*) AS scorecards
FROM director.scorecards AS c
WHERE c.customer = ANY (string_to_array('acme', E'\x1f'))
  AND (
      c.process_interaction_at >= '2026-01-20T00:00:00+00:00'::timestamptz
      AND c.process_interaction_at < '2026-01-21T00:00:00+00:00'::timestamptz
  )
GROUP BY 1, 2
