SYSTEM SYNC REPLICA `{database}`.`scorecard` LIGHTWEIGHT
