SELECT c.customer, c.profile, c.scorecard_id::text AS scorecard_id
FROM director.scorecards AS c
WHERE c.customer = ANY (string_to_array('acme', E'\x1f'))
  AND CASE
      WHEN c.customer = ANY (string_to_array('acme', E'\x1f')) THEN c.customer
          || '/' || c.profile = ANY (string_to_array('acme/main', E'\x1f'))
      ELSE true
  END
  AND c.scorecard_type IN (1, 2, 3)
  AND c.scorecard_id = ANY (string_to_array($1, ',')::uuid[])
