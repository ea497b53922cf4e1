SELECT number, pg_try_advisory_lock(number) AS held
FROM unnest(string_to_array($1, ',')::bigint[]) AS number
ORDER BY number
