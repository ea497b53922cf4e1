SELECT
    c.customer AS customer,
    c.profile AS profile,
    c.scorecard_id AS scorecard_id,
    s.score_id AS score_id,
    (octet_length(c.customer) || ':' || c.customer) AS text_customer,
    (octet_length(c.profile) || ':' || c.profile) AS text_profile,
    ((r.template_type)::text) AS text_template_type,
    ((c.scorecard_id)::text) AS text_scorecard_id,
    ((c.template_id)::text) AS text_template_id,
    ((c.template_revision_id)::text) AS text_template_revision_id,
    (
        octet_length(coalesce(c.conversation_id, '')) || ':' || coalesce(c.conversation_id, '')
    ) AS text_conversation_id,
    coalesce(octet_length(c.agent_user_id) || ':' || c.agent_user_id, '~') AS text_agent_user_id,
    (encode(timestamptz_send(t.conversation_start_time), 'hex')) AS text_scorecard_time,
    ((s.score_id)::text) AS text_score_id,
    (octet_length(s.criterion_id) || ':' || s.criterion_id) AS text_criterion_id,
    coalesce(encode(float8send(s.numeric_value), 'hex'), '~') AS text_numeric_value,
    coalesce(encode(float8send(s.ai_value), 'hex'), '~') AS text_ai_value,
    coalesce(octet_length(s.text_value) || ':' || s.text_value, '~') AS text_text_value,
    coalesce(encode(float8send(s.weight), 'hex'), '~') AS text_weight,
    coalesce(encode(float8send(s.percentage), 'hex'), '~') AS text_percentage,
    ((s.not_applicable)::text) AS text_not_applicable,
    ((s.auto_failed)::text) AS text_auto_failed,
    coalesce(octet_length(s.comment) || ':' || s.comment, '~') AS text_comment
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
  AND c.scorecard_id = ANY (string_to_array($1, ',')::uuid[])
