WITH RECURSIVE relation AS (
    SELECT to_regclass(name)::oid AS oid
    FROM unnest(string_to_array($1, ',')) AS name
    UNION
    SELECT child.inhrelid
    FROM relation
    JOIN pg_inherits AS child
      ON child.inhparent = relation.oid
)
SELECT
    count(DISTINCT c.oid) FILTER (WHERE c.relkind IN ('r', 'p', 'm')) = count(DISTINCT relation.oid) AS are_tables,
    md5(string_agg(
        ROW(
            c.oid, c.relkind,
            a.attnum,
            a.attname,
            a.attisdropped,
            a.atttypid,
            a.atttypmod,
            a.attcollation,
            a.attgenerated,
            a.attmissingval::text,
            pg_get_expr(d.adbin, d.adrelid),
            labels.of_type
        )::text,
        ' '
        ORDER BY c.oid, a.attnum
    )) AS columns,
    pg_postmaster_start_time()::text AS start,
    (SELECT system_identifier::text FROM pg_control_system()) AS system,
    (SELECT timeline_id::text FROM pg_control_checkpoint()) AS timeline,
    txid_snapshot_xmax(txid_current_snapshot())::text AS next_xid
FROM relation
LEFT JOIN pg_class AS c
ON c.oid = relation.oid
LEFT JOIN pg_attribute AS a
ON a.attrelid = c.oid
AND a.attnum > 0
LEFT JOIN pg_attrdef AS d
ON d.adrelid = a.attrelid
AND d.adnum = a.attnum
LEFT JOIN pg_type AS t
ON t.oid = a.atttypid
LEFT JOIN LATERAL (
    SELECT string_agg(label.enumlabel, ' ' ORDER BY label.enumsortorder) AS of_type
    FROM pg_enum AS label
    WHERE label.enumtypid IN (t.oid, t.typelem, t.typbasetype)
) AS labels
ON true
