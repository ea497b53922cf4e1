SELECT pg_advisory_unlock(number) AS released FROM unnest(string_to_array($1, ',')::bigint[]) AS number
