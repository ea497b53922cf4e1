SELECT
    c.customer,
    c.day, c.template_id::text AS template,
    c.shard,
    c.profile,
    c.conversation_id,
    count(*) AS found,
    sum(
        (
            'x' || md5(
                (c.of_copies)::text
                    || ',' || ((s.score_id)::text)
                    || ',' || (octet_length(s.criterion_id) || ':' || s.criterion_id)
                    || ',' || coalesce(encode(float8send(s.numeric_value), 'hex'), '~')
                    || ',' || coalesce(encode(float8send(s.ai_value), 'hex'), '~')
                    || ',' || coalesce(octet_length(s.text_value) || ':' || s.text_value, '~')
                    || ',' || coalesce(encode(float8send(s.weight), 'hex'), '~')
                    || ',' || coalesce(encode(float8send(s.percentage), 'hex'), '~')
                    || ',' || ((s.not_applicable)::text)
                    || ',' || ((s.auto_failed)::text)
                    || ',' || coalesce(octet_length(s.comment) || ':' || s.comment, '~')
            )
        )::bit(64)::int8
    )::text AS digest
FROM (
    SELECT
        c.customer,
        c.scorecard_id,
        c.template_id,
        c.profile,
        mod(mod(floor(extract(epoch FROM t.conversation_start_time))::bigint, 2) + 2, 2)::int AS shard,
        c.conversation_id,
        (t.conversation_start_time AT TIME ZONE 'UTC')::date AS day,
        (
            'x' || md5(
                (octet_length(c.customer) || ':' || c.customer)
                    || ',' || (octet_length(c.profile) || ':' || c.profile)
                    || ',' || ((r.template_type)::text)
                    || ',' || ((c.scorecard_id)::text)
                    || ',' || ((c.template_id)::text)
                    || ',' || ((c.template_revision_id)::text)
                    || ',' || (
                        octet_length(coalesce(c.conversation_id, ''))
                            || ':' || coalesce(c.conversation_id, '')
                    )
                    || ',' || coalesce(octet_length(c.agent_user_id) || ':' || c.agent_user_id, '~')
                    || ',' || (encode(timestamptz_send(t.conversation_start_time), 'hex'))
            )
        )::bit(64)::int8 AS of_copies,
        clock_timestamp() AS fence
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
) AS c
JOIN historic.scorecard_scores AS s
  ON s.customer = c.customer
  AND s.profile = c.profile
  AND s.scorecard_id = c.scorecard_id
GROUP BY c.customer, c.day, c.template_id, c.shard, c.profile, c.conversation_id
