SELECT reltuples::bigint AS rows FROM pg_class WHERE oid = to_regclass($1)
