EXPLAIN (FORMAT JSON)
SELECT 1
FROM director.scorecards AS c
WHERE c.customer = ANY (string_to_array('acme\x1fglobex', E'\x1f'))
AND (
    c.process_interaction_at >= '2026-01-20T00:00:00+00:00'::timestamptz
    AND c.process_interaction_at < '2026-01-21T00:00:00+00:00'::timestamptz
    OR c.process_interaction_at >= '2026-01-22T00:00:00+00:00'::timestamptz
    AND c.process_interaction_at < '2026-01-23T00:00:00+00:00'::timestamptz
)
