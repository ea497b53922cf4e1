-- A temporary table of scorecards, made from slots: numbers of scorecards of one template type on one day of one profile.
--
-- Every value comes from the bits of a hash of the row's place (customer, profile, day, type, number), so it depends only on the seed and
-- never on the query plan. `OFFSET 0` prevents the hash from being computed at each use.
--   number 0 is at 00:00:00.000000, number 1 at 23:59:59.999999 of its day;
--   number 2 of the process scorecards has the same scorecard_id in every profile of every customer, as the key allows;
--   the numbers from %(first_number)s + normal on are appeals.

CREATE TEMPORARY TABLE made_scorecards ON COMMIT DROP AS
WITH slots AS (
    SELECT *
    FROM unnest(
        %(customer)s::text[], %(profile)s::text[], %(day)s::date[], %(template_type)s::smallint[],
        %(first_template)s::int[], %(templates)s::int[], %(normal)s::int[], %(appeals)s::int[]
    ) AS s (customer, profile, day, template_type, first_template, templates, normal, appeals)
),
numbered AS (
    SELECT
        customer,
        profile,
        day,
        template_type,
        first_template,
        templates,
        %(first_number)s + normal                                                        AS first_appeal,
        generate_series(%(first_number)s, %(first_number)s + normal + appeals - 1)       AS number
    FROM slots
),
-- Two of three conversations have one scorecard, the third has two.
placed AS (
    SELECT
        *,
        CASE WHEN template_type = 1 AND mod(number, 3) = 2 THEN number - 1 ELSE number END AS event
    FROM numbered
),
hashed AS (
    SELECT
        *,
        hashtextextended(concat_ws('|', customer, profile, day, template_type, number), %(seed)s)        AS h,
        hashtextextended(concat_ws('|', number, day, template_type, profile, customer), %(seed)s + 1)    AS g,
        hashtextextended(concat_ws('|', 'event', event, day, template_type, profile, customer), %(seed)s)
            & 9223372036854775807                                                                       AS e
    FROM placed
    OFFSET 0
),
timed AS (
    SELECT
        *,
        day::timestamp AT TIME ZONE 'UTC' + interval '1 microsecond' * CASE
            WHEN event = 0 THEN 0
            WHEN event = 1 THEN 86399999999
            WHEN (e >> 50) & 15 = 0 THEN mod(e, 86400) * 1000000
            ELSE mod(e, 86400000000)
        END AS event_at
    FROM hashed
    OFFSET 0
),
-- A scorecard is created some minutes after the event, one in eight up to two days after it.
created AS (
    SELECT
        *,
        event_at + interval '1 microsecond' * CASE
            WHEN (h >> 60) & 7 = 0 THEN (h >> 3) & 137438953471
            ELSE (h >> 3) & 1073741823
        END AS made_at
    FROM timed
    OFFSET 0
)
SELECT
    c.customer,
    c.profile,
    md5(
        CASE
            WHEN c.template_type = 2 AND c.number = 2 THEN concat_ws('|', 'shared', %(round)s, c.day)
            ELSE concat_ws('|', 'scorecard', %(round)s, c.customer, c.profile, c.day, c.template_type, c.number)
        END
    )::uuid AS scorecard_id,
    r.template_id,
    r.template_revision_id,
    CASE
        WHEN c.template_type = 1
        THEN md5(concat_ws('|', 'conversation', %(round)s, c.customer, c.profile, c.day, c.event))
        WHEN (h >> 40) & 1 = 0 THEN ''
    END AS conversation_id,
    CASE
        WHEN (g >> 7) & 127 = 0 THEN NULL
        WHEN (g >> 7) & 511 = 1 THEN ''
        WHEN (g >> 7) & 127 = 2 THEN 'Zoë Łukasiewicz 👩🏽‍💻'
        ELSE concat('agent-', lpad(((g >> 16) & 255)::text, 4, '0'))
    END AS agent_user_id,
    CASE WHEN (g >> 24) & 15 = 0 THEN NULL ELSE concat('manager-', (g >> 28) & 31) END AS creator_user_id,
    CASE WHEN (g >> 33) & 3 = 0 THEN NULL ELSE ((g >> 35) & 3)::smallint END AS submission_source,
    CASE
        WHEN c.number >= c.first_appeal THEN (1 + mod(c.number - c.first_appeal, 3))::smallint
        WHEN (g >> 37) & 3 = 0 THEN 0::smallint
    END AS scorecard_type,
    CASE
        WHEN (g >> 39) & 31 = 0 THEN NULL
        WHEN (g >> 39) & 31 = 1 THEN 0.0::float8
        WHEN (g >> 39) & 1023 = 2 THEN '-0'::float8
        WHEN (g >> 39) & 4095 = 3 THEN 5e-324
        ELSE ((g >> 1) & 1048575)::float8 / 10485.75
    END AS score,
    CASE WHEN c.template_type = 2 OR (h >> 44) & 15 = 0 THEN c.event_at END AS process_interaction_at,
    /* further times */
    c.made_at AS created_at,
    -- One in four was edited later.
    CASE WHEN (h >> 42) & 3 = 0 THEN c.made_at + interval '1 microsecond' * ((g >> 2) & 68719476735) ELSE c.made_at END
        AS updated_at,
    CASE WHEN (h >> 48) & 7 > 0 THEN c.made_at + interval '1 microsecond' * ((g >> 5) & 268435455) END AS submitted_at,
    -- Not columns of the scorecard, but inputs of the other tables.
    c.template_type,
    c.day,
    c.event_at,
    r.criteria
FROM created AS c
JOIN made_revisions AS r
    ON r.customer = c.customer
    AND r.profile = c.profile
    AND r.ordinal = c.first_template + mod((g >> 45) & 1023, c.templates)
    AND r.revision = mod((g >> 55) & 255, 2 + mod(r.ordinal, 3));

ANALYZE made_scorecards;
