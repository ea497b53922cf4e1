SELECT
    c.customer AS customer,
    c.profile AS profile,
    r.template_type AS template_type,
    c.scorecard_id AS scorecard_id,
    c.template_id AS template_id,
    c.template_revision_id AS template_revision_id,
    coalesce(c.conversation_id, '') AS conversation_id,
    c.agent_user_id AS agent_user_id,
    t.conversation_start_time AS scorecard_time,
    s.score_id AS score_id,
    s.criterion_id AS criterion_id,
    s.numeric_value AS numeric_value,
    s.ai_value AS ai_value,
    s.text_value AS text_value,
    s.weight AS weight,
    s.percentage AS percentage,
    s.not_applicable AS not_applicable,
    s.auto_failed AS auto_failed,
    s.comment AS comment
FROM director.scorecards AS c
JOIN director.scorecard_template_revisions AS r
  ON r.template_revision_id = c.template_revision_id
  AND CASE
      WHEN r.customer = c.customer
        AND r.profile = c.profile
        AND r.template_id = c.template_id THEN true
      ELSE false
  END
JOIN app.chats AS t
  ON t.customer = c.customer
  AND t.profile = c.profile
  AND t.conversation_id = c.conversation_id
JOIN historic.scorecard_scores AS s
  ON s.customer = c.customer
  AND s.profile = c.profile
  AND s.scorecard_id = c.scorecard_id
WHERE c.customer = ANY (string_to_array('acme', E'\x1f'))
  AND CASE
      WHEN c.customer = ANY (string_to_array('acme', E'\x1f')) THEN c.customer
          || '/' || c.profile = ANY (string_to_array('acme/main', E'\x1f'))
      ELSE true
  END
  AND (c.scorecard_type IS NULL OR c.scorecard_type = 0)
  AND r.template_type = '1'::int
  AND t.customer = ANY (string_to_array('acme', E'\x1f'))
  AND (
      t.conversation_start_time >= '2026-01-20T00:00:00+00:00'::timestamptz
      AND t.conversation_start_time < '2026-01-21T00:00:00+00:00'::timestamptz
  )
  AND c.created_at >= timestamptz '1900-01-01T00:00:00+00:00'
  AND c.created_at < timestamptz '2300-01-01T00:00:00+00:00'
  AND c.updated_at >= timestamptz '1900-01-01T00:00:00+00:00'
  AND c.updated_at < timestamptz '2300-01-01T00:00:00+00:00'
  AND (
      c.submitted_at IS NULL
      OR (
          c.submitted_at >= timestamptz '1900-01-01T00:00:00+00:00'
          AND c.submitted_at < timestamptz '2300-01-01T00:00:00+00:00'
      )
  )
