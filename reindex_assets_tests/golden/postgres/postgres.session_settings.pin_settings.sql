SELECT
    set_to.name,
    pg_catalog.current_setting('server_encoding') AS server_encoding,
    pg_catalog.set_config(set_to.name, set_to.value, false) AS value
FROM pg_catalog.jsonb_each_text($1::pg_catalog.jsonb) AS set_to (name, value)
WHERE set_to.name IN (SELECT name FROM pg_catalog.pg_settings)
