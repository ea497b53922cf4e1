SELECT count(*) AS tables
FROM unnest(string_to_array($1, ',')) AS name
JOIN pg_class AS c
  ON c.oid = to_regclass(name)
WHERE c.relkind IN ('r', 'p', 'm')
