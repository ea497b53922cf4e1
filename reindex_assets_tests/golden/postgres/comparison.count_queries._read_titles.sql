SELECT
    t.customer,
    t.template_id::text AS template_id,
    string_agg(DISTINCT t.title, ' / ' ORDER BY t.title) AS title
FROM director.scorecard_templates AS t
WHERE t.customer = ANY (string_to_array('acme', E'\x1f'))
GROUP BY t.customer, t.template_id
