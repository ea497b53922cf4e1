SELECT concat(table, ' ', mutation_id) AS mutation
FROM system.mutations
WHERE database = {database:String}
  AND table IN {tables:Array(String)}
  AND NOT is_done
  AND match(command, 'DELETE|_row_exists')
  AND (NOT match(command, 'IN PARTITION') OR match(command, {months:String}))
