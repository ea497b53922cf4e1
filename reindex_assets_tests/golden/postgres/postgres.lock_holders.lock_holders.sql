SELECT DISTINCT l.pid, coalesce(a.application_name, 'gone') AS application
FROM pg_locks AS l
LEFT JOIN pg_stat_activity AS a
  ON a.pid = l.pid
WHERE l.locktype = 'advisory'
  AND l.granted
  AND l.objsubid = 1
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND ((l.classid::bigint << 32) | l.objid::bigint) = ANY (string_to_array($1, ',')::bigint[])
  AND l.pid <> pg_backend_pid()
ORDER BY l.pid
