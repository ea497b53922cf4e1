SELECT count() AS found FROM system.parts WHERE database = {database:String} AND table = {table:String}
