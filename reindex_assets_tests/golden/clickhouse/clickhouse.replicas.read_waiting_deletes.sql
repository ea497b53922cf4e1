SELECT count(), any(last_exception)
FROM system.replication_queue
WHERE database = {database:String}
  AND table IN {tables:Array(String)}
  AND type = 'MUTATE_PART'
