SELECT count() AS found FROM score WHERE _part IN {parts:Array(String)} SETTINGS apply_deleted_mask = 0
