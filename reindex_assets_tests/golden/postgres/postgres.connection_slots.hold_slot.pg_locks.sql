SELECT
    l.pid, coalesce(a.application_name, 'gone') AS application,
    to_char(a.backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') AS since
FROM pg_locks AS l
LEFT JOIN pg_stat_activity AS a
  ON a.pid = l.pid
WHERE l.locktype = 'advisory'
  AND l.granted
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND l.classid = 1919248760
  AND l.objsubid = 2
  AND l.objid <= $1::int
ORDER BY l.objid
