DELETE FROM scorecard IN PARTITION 190001 WHERE version < 0 SETTINGS lightweight_deletes_sync = 0
