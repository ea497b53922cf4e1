SELECT count() AS found FROM score
