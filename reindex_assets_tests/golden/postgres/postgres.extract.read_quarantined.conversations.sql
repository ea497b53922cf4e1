SELECT
    c.customer,
    c.profile,
    c.scorecard_id::text AS scorecard_id,
    (
        (
            CASE
                WHEN (
                    t.conversation_start_time >= '2026-01-20T00:00:00+00:00'::timestamptz
                    AND t.conversation_start_time < (
                        (
                            date_trunc('day', transaction_timestamp() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'
                        ) + interval '24 hours'
                    )
                ) THEN t.conversation_start_time
                ELSE least(
                    greatest(c.created_at, '2026-01-20T00:00:00+00:00'::timestamptz),
                    (date_trunc('day', transaction_timestamp() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC')
                )
            END
        ) AT TIME ZONE 'UTC'
    )::date AS day,
    CASE
        WHEN r.template_type IS NULL THEN 'its template revision '
            || c.template_revision_id
            || ' does not exist'
        WHEN t.conversation_id IS NULL THEN 'its conversation '
            || coalesce(quote_literal(c.conversation_id), 'NULL')
            || ' is not in app.chats'
        WHEN (r.template_type IS NULL OR r.template_type NOT IN (2, 1)) THEN 'its template type '
            || r.template_type
            || ' is unknown (known are 2, 1)'
        WHEN (c.scorecard_type IS NOT NULL AND c.scorecard_type <> 0) THEN 'its scorecard_type '
            || c.scorecard_type
            || ' is unknown: neither NULL or 0, nor an appeal (1, 2, 3)'
        WHEN t.conversation_start_time IS NULL THEN 'conversation_start_time is NULL'
        WHEN NOT isfinite(t.conversation_start_time) THEN 'conversation_start_time is infinite'
        WHEN t.conversation_start_time < '2026-01-20T00:00:00+00:00'::timestamptz THEN 'conversation_start_time lies before the first day of the fleet file: '
            || t.conversation_start_time
        WHEN t.conversation_start_time >= timestamptz '2300-01-01T00:00:00+00:00' THEN 'conversation_start_time lies beyond 2299, the last year of ClickHouse: '
            || t.conversation_start_time
        WHEN t.conversation_start_time >= (
            (
                date_trunc('day', transaction_timestamp() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'
            ) + interval '24 hours'
        ) THEN 'conversation_start_time lies in the future, and is copied once that day has come: '
            || t.conversation_start_time
        ELSE 'created_at or updated_at is NULL, or one of them or submitted_at lies outside the years 1900 to 2299'
    END AS reason
FROM (
    SELECT c.*
    FROM director.scorecards AS c
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
      AND (c.scorecard_type IS NULL OR c.scorecard_type NOT IN (1, 2, 3))
      AND t.customer = ANY (string_to_array('acme', E'\x1f'))
      AND (
          t.conversation_start_time >= '2026-01-20T00:00:00+00:00'::timestamptz
          AND t.conversation_start_time < '2026-01-21T00:00:00+00:00'::timestamptz
      )
      AND (
          (
              c.created_at >= timestamptz '1900-01-01T00:00:00+00:00'
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
          ) IS NOT TRUE
          OR (c.scorecard_type IS NOT NULL AND c.scorecard_type <> 0)
          OR (
              (c.customer, c.profile, c.template_id, c.template_revision_id) IN (
                  SELECT customer, profile, template_id, template_revision_id
                  FROM director.scorecard_template_revisions
                  WHERE template_type IN (2, 1)
              )
          ) IS NOT TRUE
      )
    UNION ALL
    SELECT c.*
    FROM director.scorecards AS c
    LEFT JOIN app.chats AS t
      ON t.customer = c.customer
      AND t.profile = c.profile
      AND t.conversation_id = c.conversation_id
    WHERE c.customer = ANY (string_to_array('acme', E'\x1f'))
      AND CASE
          WHEN c.customer = ANY (string_to_array('acme', E'\x1f')) THEN c.customer
              || '/' || c.profile = ANY (string_to_array('acme/main', E'\x1f'))
          ELSE true
      END
      AND (c.scorecard_type IS NULL OR c.scorecard_type NOT IN (1, 2, 3))
      AND (
          (
              c.created_at >= '2026-01-20T00:00:00+00:00'::timestamptz
              AND c.created_at < '2026-01-21T00:00:00+00:00'::timestamptz
          )
          OR (
              c.created_at < '2026-01-21T00:00:00+00:00'::timestamptz
              AND '2026-01-20T00:00:00+00:00'::timestamptz <= '2026-01-20T00:00:00+00:00'::timestamptz
          )
          OR (
              c.created_at >= (
                  (
                      date_trunc('day', transaction_timestamp() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'
                  ) + interval '24 hours'
              )
              AND (
                  (
                      date_trunc('day', transaction_timestamp() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'
                  ) >= '2026-01-20T00:00:00+00:00'::timestamptz
                  AND (
                      date_trunc('day', transaction_timestamp() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'
                  ) < '2026-01-21T00:00:00+00:00'::timestamptz
              )
          )
      )
      AND (
          t.conversation_start_time >= '2026-01-20T00:00:00+00:00'::timestamptz
          AND t.conversation_start_time < (
              (
                  date_trunc('day', transaction_timestamp() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'
              ) + interval '24 hours'
          )
      ) IS NOT TRUE
      AND (
          t.customer = ANY (string_to_array('acme', E'\x1f'))
          AND (
              t.conversation_start_time >= '2026-01-20T00:00:00+00:00'::timestamptz
              AND t.conversation_start_time < '2026-01-21T00:00:00+00:00'::timestamptz
          )
      ) IS NOT TRUE
      AND (
          c.created_at >= '2026-01-20T00:00:00+00:00'::timestamptz
          OR t.conversation_start_time IS NULL
          OR NOT isfinite(t.conversation_start_time)
          OR t.conversation_start_time >= (
              (
                  date_trunc('day', transaction_timestamp() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'
              ) + interval '24 hours'
          )
      )
      AND (
          coalesce(c.conversation_id, '') <> ''
          OR (c.customer, c.profile, c.template_id, c.template_revision_id) IN (
              SELECT customer, profile, template_id, template_revision_id
              FROM director.scorecard_template_revisions
              WHERE template_type = '1'::int
          )
      )
    OFFSET 0
) AS c
LEFT JOIN director.scorecard_template_revisions AS r
  ON r.customer = c.customer
  AND r.profile = c.profile
  AND r.template_id = c.template_id
  AND r.template_revision_id = c.template_revision_id
LEFT JOIN app.chats AS t
  ON t.customer = c.customer
  AND t.profile = c.profile
  AND t.conversation_id = c.conversation_id
WHERE (
    r.template_type = '1'::int
    OR ((r.template_type IS NULL OR r.template_type NOT IN (2, 1)) AND coalesce(c.conversation_id, '') <> '')
)
ORDER BY 1, 4, 2, 3
