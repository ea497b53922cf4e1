SELECT t.customer, (t.conversation_start_time AT TIME ZONE 'UTC')::date AS day, count(*) AS scorecards
FROM app.chats AS t
WHERE t.customer = ANY (string_to_array('acme', E'\x1f'))
  AND (
      t.conversation_start_time >= '2026-01-20T00:00:00+00:00'::timestamptz
      AND t.conversation_start_time < '2026-01-21T00:00:00+00:00'::timestamptz
  )
GROUP BY 1, 2
