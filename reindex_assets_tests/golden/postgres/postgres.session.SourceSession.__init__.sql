SELECT set_config(name, $2, $3::boolean) AS value FROM pg_settings WHERE name = $1
