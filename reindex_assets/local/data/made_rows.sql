-- Copies made_scorecards (made_scorecards.sql) to the source, with their scores and the chats of the conversations.
-- A score's values are bits of a hash of the scorecard and the criterion. `phrases` exposes careless escaping, trimming and comparing of
-- text; NULL and the empty text both occur on purpose.

INSERT INTO director.scorecards (
    customer, profile, scorecard_id, template_id, template_revision_id, conversation_id, agent_user_id, creator_user_id,
    submission_source, scorecard_type, score, process_interaction_at, /* further columns */ created_at, updated_at, submitted_at
)
SELECT
    customer, profile, scorecard_id, template_id, template_revision_id, conversation_id, agent_user_id, creator_user_id,
    submission_source, scorecard_type, score, process_interaction_at, /* further columns */ created_at, updated_at, submitted_at
FROM made_scorecards;

INSERT INTO app.chats (customer, profile, conversation_id, agent_user_id, conversation_start_time, conversation_end_time)
SELECT DISTINCT ON (customer, profile, conversation_id)
    customer, profile, conversation_id, agent_user_id, event_at, event_at + interval '4 minutes 33 seconds'
FROM made_scorecards
WHERE template_type = 1
ORDER BY customer, profile, conversation_id, scorecard_id;

INSERT INTO historic.scorecard_scores (
    customer, profile, scorecard_id, score_id, criterion_id, numeric_value, ai_value, text_value, weight, percentage,
    not_applicable, auto_failed, comment
)
WITH numbered AS (
    SELECT customer, profile, scorecard_id, template_id, generate_series(1, criteria) AS criterion
    FROM made_scorecards
),
hashed AS (
    SELECT
        *,
        hashtextextended(scorecard_id::text, %(seed)s + criterion)                                 AS h,
        hashtextextended(scorecard_id::text, %(seed)s - criterion)                                 AS g,
        %(phrases)s::text[]                                                                        AS phrases
    FROM numbered
    OFFSET 0
)
SELECT
    customer,
    profile,
    scorecard_id,
    -- Twice 64 bits of hash, as a uuid.
    (lpad(to_hex(g), 16, '0') || lpad(to_hex(h), 16, '0'))::uuid,
    concat('criterion-', criterion),
    CASE
        WHEN h & 31 = 0 THEN NULL
        WHEN h & 31 = 1 THEN 0.0::float8
        WHEN h & 1023 = 2 THEN '-0'::float8
        WHEN h & 16383 = 3 THEN 1.7976931348623157e308
        ELSE ((h >> 5) & 65535)::float8 / 7
    END,
    CASE
        WHEN (h >> 21) & 1 = 0 THEN NULL
        WHEN (h >> 21) & 16383 = 1 THEN 'NaN'::float8
        WHEN (h >> 21) & 16383 = 3 THEN '-Infinity'::float8
        ELSE ((h >> 22) & 1023)::float8 / 1023
    END,
    CASE
        WHEN g & 3 = 0 THEN NULL
        WHEN g & 31 = 1 THEN ''
        ELSE phrases[1 + ((g >> 5) & 31)]
    END,
    CASE WHEN (h >> 32) & 15 = 0 THEN NULL ELSE (1 + ((h >> 36) & 7))::float8 / 3 END,
    CASE WHEN (h >> 39) & 15 = 0 THEN NULL ELSE ((h >> 43) & 1023)::float8 * 100 / 1023 END,
    (h >> 53) & 31 = 0,
    (h >> 58) & 31 = 0,
    CASE
        WHEN (g >> 10) & 7 < 3 THEN NULL
        WHEN (g >> 10) & 127 = 3 THEN ''
        -- Longer than a page of Postgres, which stores it out of line.
        WHEN (g >> 10) & 4095 = 4 THEN repeat(phrases[1 + ((g >> 22) & 31)] || criterion, 400)
        ELSE concat_ws(
            ' ', phrases[1 + ((g >> 22) & 31)], phrases[1 + ((g >> 27) & 31)], phrases[1 + ((g >> 32) & 31)],
            phrases[1 + ((g >> 37) & 31)]
        )
    END
FROM hashed;
