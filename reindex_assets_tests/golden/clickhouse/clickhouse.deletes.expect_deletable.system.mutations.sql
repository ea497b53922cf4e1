SELECT count() AS mutations, any(mutation_id) AS id, any(latest_fail_reason) AS reason
FROM system.mutations
WHERE database = {database:String}
  AND table = {table:String}
  AND NOT is_done
  AND latest_fail_reason != ''
