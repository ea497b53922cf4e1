SELECT name
FROM system.columns
WHERE database = {database:String}
  AND table = {table:String}
  AND default_kind IN ('', 'DEFAULT')
  AND name NOT IN {known:Array(String)}
ORDER BY position
