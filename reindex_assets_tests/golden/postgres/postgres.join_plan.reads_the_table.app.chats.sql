EXPLAIN (FORMAT JSON)
SELECT 1
FROM app.chats AS t
WHERE t.customer = ANY (string_to_array('acme', E'\x1f'))
AND (
    t.conversation_start_time >= '2026-01-20T00:00:00+00:00'::timestamptz
    AND t.conversation_start_time < '2026-01-21T00:00:00+00:00'::timestamptz
)
