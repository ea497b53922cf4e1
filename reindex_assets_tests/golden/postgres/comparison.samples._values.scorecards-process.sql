SELECT
    c.customer AS customer,
    c.profile AS profile,
    c.scorecard_id AS scorecard_id,
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
    coalesce(octet_length(c.creator_user_id) || ':' || c.creator_user_id, '~') AS text_creator_user_id,
    coalesce((c.submission_source)::text, '~') AS text_submission_source,
    (encode(timestamptz_send(c.process_interaction_at), 'hex')) AS text_scorecard_time,
    (encode(timestamptz_send(c.created_at), 'hex')) AS text_created_at,
    (encode(timestamptz_send(c.updated_at), 'hex')) AS text_updated_at,
    coalesce(encode(timestamptz_send(c.submitted_at), 'hex'), '~') AS text_submitted_at,
    coalesce(encode(float8send(c.score), 'hex'), '~') AS text_score
FROM director.scorecards AS c
JOIN director.scorecard_template_revisions AS r
  ON r.template_revision_id = c.template_revision_id
  AND CASE
      WHEN r.customer = c.customer
        AND r.profile = c.profile
        AND r.template_id = c.template_id THEN true
      ELSE false
  END
WHERE c.customer = ANY (string_to_array('acme', E'\x1f'))
  AND CASE
      WHEN c.customer = ANY (string_to_array('acme', E'\x1f')) THEN c.customer
          || '/' || c.profile = ANY (string_to_array('acme/main', E'\x1f'))
      ELSE true
  END
  AND (c.scorecard_type IS NULL OR c.scorecard_type = 0)
  AND r.template_type = '2'::int
  AND (
      c.process_interaction_at >= '2026-01-20T00:00:00+00:00'::timestamptz
      AND c.process_interaction_at < '2026-01-21T00:00:00+00:00'::timestamptz
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
