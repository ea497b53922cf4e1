-- Templates and their revisions, of every profile: %(types)s has the template type of each.
-- The profiles of a customer share the template's and the revision's id, as Postgres' keys allow: a join that forgets the
-- profile shows itself. The templates ask so many criteria each, in turn.

CREATE TEMPORARY TABLE made_revisions ON COMMIT DROP AS
SELECT
    p.customer,
    p.profile,
    o.ordinal,
    r.revision,
    (%(types)s::smallint[])[1 + o.ordinal]                                                   AS template_type,
    (%(criteria)s::int[])[1 + mod(o.ordinal, cardinality(%(criteria)s::int[]))]                    AS criteria,
    md5(concat_ws('|', 'template', %(seed)s::text, p.customer, o.ordinal))::uuid             AS template_id,
    md5(concat_ws('|', 'revision', %(seed)s::text, p.customer, o.ordinal, r.revision))::uuid AS template_revision_id
FROM unnest(%(customers)s::text[], %(profiles)s::text[]) AS p (customer, profile)
CROSS JOIN generate_series(0, cardinality(%(types)s::smallint[]) - 1) AS o (ordinal)
CROSS JOIN LATERAL generate_series(0, 1 + mod(o.ordinal, 3)) AS r (revision);

ANALYZE made_revisions;
