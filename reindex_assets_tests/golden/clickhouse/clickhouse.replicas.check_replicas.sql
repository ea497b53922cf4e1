SELECT t.name AS name, ifNull(r.total_replicas, 0) AS replicas
FROM system.tables AS t
LEFT JOIN (
    SELECT table, total_replicas
    FROM system.replicas
    WHERE database = {database:String}
      AND table IN {tables:Array(String)}
) AS r
  ON r.table = t.name
WHERE t.database = {database:String}
  AND t.name IN {tables:Array(String)}
