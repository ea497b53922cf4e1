SELECT name FROM system.tables WHERE database = {database:String} AND startsWith(name, {prefix:String})
