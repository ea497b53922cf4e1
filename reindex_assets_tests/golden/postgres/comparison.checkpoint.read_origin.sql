SELECT system_identifier::text AS system, timeline_id::text AS timeline
FROM pg_control_system(), pg_control_checkpoint()
