-- One round of the application's edits. made_changes lists the action for each scorecard; `time_before` and `time_after` are its process
-- times (NULL after: it leaves ClickHouse), and `scores` is the number of score rows that the action changes.

CREATE TEMPORARY TABLE made_changes ON COMMIT DROP AS
WITH candidates AS (
    SELECT
        c.customer,
        c.profile,
        c.scorecard_id,
        c.process_interaction_at                                                              AS time_before,
        hashtextextended(concat_ws('|', c.customer, c.profile, c.scorecard_id), %(seed)s)     AS h
    FROM director.scorecards AS c
    JOIN director.scorecard_template_revisions AS r
        USING (customer, profile, template_id, template_revision_id)
    WHERE c.customer = ANY (%(customers)s)
        AND c.process_interaction_at >= %(since)s
        AND c.process_interaction_at < %(until)s
        AND r.template_type = %(process_type)s
        AND coalesce(c.scorecard_type, 0) = 0
),
ranked AS (
    SELECT
        *,
        row_number() OVER (ORDER BY h, customer, profile, scorecard_id) - 1                   AS rank,
        greatest(1, (count(*) OVER () * %(share)s)::bigint)                                   AS each
    FROM candidates
),
chosen AS (
    SELECT
        *,
        (ARRAY['edited', 'rescored', 'deleted', 'retimed', 'appealed', 'moved'])[1 + rank / each] AS action
    FROM ranked
    WHERE rank < each * CASE WHEN %(days)s > 1 THEN 6 ELSE 5 END
)
SELECT
    customer,
    profile,
    scorecard_id,
    h,
    action,
    time_before,
    CASE action
        WHEN 'deleted' THEN NULL
        WHEN 'appealed' THEN NULL
        WHEN 'retimed' THEN time_before + interval '1 second' * CASE
            WHEN (time_before AT TIME ZONE 'UTC')::time < '23:59:59' THEN 1
            ELSE -1
        END
        -- To any other day of the plan, at the same time of day plus some seconds.
        WHEN 'moved' THEN
            (%(first_day)s::date + mod(
                (time_before AT TIME ZONE 'UTC')::date - %(first_day)s::date + 1
                    + mod(h & 2147483647, greatest(1, %(days)s - 1))::int,
                %(days)s
            ))::timestamp AT TIME ZONE 'UTC'
            + interval '1 microsecond' * mod(
                mod((extract(epoch FROM time_before) * 1000000)::bigint, 86400000000) + ((h >> 34) & 3) * 1000000, 86400000000
            )
        ELSE time_before
    END AS time_after,
    CASE action
        WHEN 'rescored' THEN 1
        ELSE (
            SELECT count(*)
            FROM historic.scorecard_scores AS s
            WHERE (s.customer, s.profile, s.scorecard_id) = (chosen.customer, chosen.profile, chosen.scorecard_id)
        )
    END AS scores
FROM chosen;

ANALYZE made_changes;

UPDATE director.scorecards AS c
SET
    score = CASE WHEN c.score IS NULL THEN 100.0 / 3 ELSE c.score + 1.0 / 3 END,
    submission_source = coalesce(c.submission_source, 0) + 1,
    submitted_at = coalesce(c.submitted_at, c.updated_at),
    updated_at = c.updated_at + interval '1 microsecond' * (1 + (m.h & 8589934591))
FROM made_changes AS m
WHERE m.action = 'edited'
    AND (c.customer, c.profile, c.scorecard_id) = (m.customer, m.profile, m.scorecard_id);

UPDATE historic.scorecard_scores AS s
SET
    numeric_value = CASE WHEN s.numeric_value IS NULL THEN 1.0 / 7 END,
    text_value = CASE WHEN s.text_value IS NULL THEN '' ELSE s.text_value || ' ✎' END,
    not_applicable = NOT s.not_applicable
FROM made_changes AS m
WHERE m.action = 'edited'
    AND (s.customer, s.profile, s.scorecard_id) = (m.customer, m.profile, m.scorecard_id);

-- Only one score's text: neither the scorecards' updated_at nor the number of rows shows the change.
UPDATE historic.scorecard_scores AS s
SET comment = concat(s.comment, 'corrected')
FROM made_changes AS m
WHERE m.action = 'rescored'
    AND (s.customer, s.profile, s.scorecard_id) = (m.customer, m.profile, m.scorecard_id)
    AND s.score_id = (
        SELECT min(t.score_id::text)::uuid
        FROM historic.scorecard_scores AS t
        WHERE (t.customer, t.profile, t.scorecard_id) = (m.customer, m.profile, m.scorecard_id)
    );

UPDATE director.scorecards AS c
SET
    process_interaction_at = m.time_after,
    updated_at = greatest(c.updated_at, m.time_after) + interval '1 microsecond' * (1 + (m.h & 8589934591))
FROM made_changes AS m
WHERE m.action IN ('moved', 'retimed')
    AND (c.customer, c.profile, c.scorecard_id) = (m.customer, m.profile, m.scorecard_id);

UPDATE director.scorecards AS c
SET
    scorecard_type = (1 + mod(m.h & 2147483647, 3))::smallint,
    updated_at = c.updated_at + interval '1 microsecond' * (1 + (m.h & 8589934591))
FROM made_changes AS m
WHERE m.action = 'appealed'
    AND (c.customer, c.profile, c.scorecard_id) = (m.customer, m.profile, m.scorecard_id);

DELETE FROM historic.scorecard_scores AS s
USING made_changes AS m
WHERE m.action = 'deleted'
    AND (s.customer, s.profile, s.scorecard_id) = (m.customer, m.profile, m.scorecard_id);

DELETE FROM director.scorecards AS c
USING made_changes AS m
WHERE m.action = 'deleted'
    AND (c.customer, c.profile, c.scorecard_id) = (m.customer, m.profile, m.scorecard_id);
