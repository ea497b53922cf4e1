INSERT INTO `reindex_staging_{owner}_{group}_canary` (scorecard_id, scorecard_time, version)
SELECT arrayJoin({ids:Array(UUID)}), {time:DateTime64(6, 'UTC')}, {version:UInt64}
