SELECT
    c.customer,
    c.profile,
    c.scorecard_id,
    coalesce(c.scorecard_type, 0)::int AS scorecard_type,
    coalesce(r.template_type, 0)::int AS template_type,
    CASE
        WHEN isfinite(t.conversation_start_time) THEN (t.conversation_start_time AT TIME ZONE 'UTC')::date
    END AS day
FROM director.scorecards AS c
LEFT JOIN director.scorecard_template_revisions AS r
  ON r.customer = c.customer
  AND r.profile = c.profile
  AND r.template_id = c.template_id
  AND r.template_revision_id = c.template_revision_id
LEFT JOIN app.chats AS t
  ON t.customer = c.customer
  AND t.profile = c.profile
  AND t.conversation_id = c.conversation_id
WHERE c.customer = ANY (string_to_array('acme', E'\x1f'))
  AND c.scorecard_id = ANY (string_to_array($1, ',')::uuid[])
