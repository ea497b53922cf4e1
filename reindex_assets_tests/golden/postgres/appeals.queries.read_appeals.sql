SELECT
    c.customer,
    c.profile,
    c.scorecard_id,
    c.scorecard_type,
    (
        (
            CASE
                WHEN isfinite(
                    (
                        CASE
                            WHEN (
                                r.template_type = '1'::int
                                OR (
                                    (r.template_type IS NULL OR r.template_type NOT IN (2, 1))
                                    AND coalesce(c.conversation_id, '') <> ''
                                )
                            ) THEN t.conversation_start_time
                            ELSE c.process_interaction_at
                        END
                    )
                ) THEN (
                    CASE
                        WHEN (
                            r.template_type = '1'::int
                            OR (
                                (r.template_type IS NULL OR r.template_type NOT IN (2, 1))
                                AND coalesce(c.conversation_id, '') <> ''
                            )
                        ) THEN t.conversation_start_time
                        ELSE c.process_interaction_at
                    END
                )
                ELSE c.created_at
            END
        ) >= '2026-01-20T00:00:00+00:00'::timestamptz
        AND (
            CASE
                WHEN isfinite(
                    (
                        CASE
                            WHEN (
                                r.template_type = '1'::int
                                OR (
                                    (r.template_type IS NULL OR r.template_type NOT IN (2, 1))
                                    AND coalesce(c.conversation_id, '') <> ''
                                )
                            ) THEN t.conversation_start_time
                            ELSE c.process_interaction_at
                        END
                    )
                ) THEN (
                    CASE
                        WHEN (
                            r.template_type = '1'::int
                            OR (
                                (r.template_type IS NULL OR r.template_type NOT IN (2, 1))
                                AND coalesce(c.conversation_id, '') <> ''
                            )
                        ) THEN t.conversation_start_time
                        ELSE c.process_interaction_at
                    END
                )
                ELSE c.created_at
            END
        ) < '2026-01-21T00:00:00+00:00'::timestamptz
    ) AS is_asked
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
  AND CASE
      WHEN c.customer = ANY (string_to_array('acme', E'\x1f')) THEN c.customer
          || '/' || c.profile = ANY (string_to_array('acme/main', E'\x1f'))
      ELSE true
  END
  AND c.scorecard_type IN (1, 2, 3)
