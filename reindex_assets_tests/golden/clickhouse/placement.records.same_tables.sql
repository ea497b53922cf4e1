SELECT concat(toString(serverUUID()), hostName(), toString(uuid)) AS id
FROM system.tables
WHERE database = {database:String}
  AND name = {table:String}
