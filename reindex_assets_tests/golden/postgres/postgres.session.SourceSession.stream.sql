SELECT set_config(name, $2, true) AS value FROM pg_settings WHERE name = $1
