SELECT name, rows
FROM system.parts
WHERE active
  AND rows > 0
  AND database = {database:String}
  AND table = {table:String}
  AND (empty({months:Array(String)}) OR partition_id IN {months:Array(String)})
ORDER BY rows DESC, name
LIMIT {most:UInt32}
