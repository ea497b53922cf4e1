SELECT
    p.table AS table,
    toString(t.uuid) AS table_uuid,
    p.partition_id AS partition,
    p.name AS name,
    p.hash_of_all_files AS hash
FROM system.parts AS p
JOIN system.tables AS t
  ON t.database = p.database
  AND t.name = p.table
WHERE p.active
  AND p.rows > 0
  AND p.database = {database:String}
  AND p.table IN {tables:Array(String)}
UNION ALL
SELECT {server:String}, '', '', 'start', toString(toUnixTimestamp(now()) - uptime())
FROM system.one
