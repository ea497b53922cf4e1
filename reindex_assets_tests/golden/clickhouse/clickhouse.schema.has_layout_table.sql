SELECT 1 AS found FROM system.tables WHERE database = {database:String} AND name = {table:String}
