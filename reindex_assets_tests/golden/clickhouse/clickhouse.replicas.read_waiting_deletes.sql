SELECT count() AS waiting, any(last_exception) AS reason
FROM system.replication_queue
WHERE database = {database:String}
  AND table IN {tables:Array(String)}
  AND type = 'MUTATE_PART'
