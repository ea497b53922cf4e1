SELECT count() AS found FROM system.mutations WHERE database = {database:String} AND table = {table:String}
