-- Copies made_revisions (made_revisions.sql) to the source.

INSERT INTO director.scorecard_templates (customer, profile, template_id, title, created_at)
SELECT
    customer,
    profile,
    template_id,
    concat(CASE template_type WHEN 2 THEN 'Process review ' ELSE 'Conversation review ' END, ordinal + 1),
    %(templates_since)s::timestamptz
FROM made_revisions
WHERE revision = 0
ORDER BY customer, profile, ordinal;

INSERT INTO director.scorecard_template_revisions (
    customer, profile, template_id, template_revision_id, template_type, created_at
)
SELECT
    customer,
    profile,
    template_id,
    template_revision_id,
    template_type,
    %(templates_since)s::timestamptz + interval '1 day' * revision
FROM made_revisions
ORDER BY customer, profile, ordinal, revision;
