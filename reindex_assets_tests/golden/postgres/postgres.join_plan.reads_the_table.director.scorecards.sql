EXPLAIN (FORMAT JSON)
SELECT 1
FROM director.scorecards AS c
WHERE c.customer = ANY (string_to_array('acme', E'\x1f'))
AND (
    c.process_interaction_at >= '2026-01-20T00:00:00+00:00'::timestamptz
    AND c.process_interaction_at < '2026-01-21T00:00:00+00:00'::timestamptz
)
