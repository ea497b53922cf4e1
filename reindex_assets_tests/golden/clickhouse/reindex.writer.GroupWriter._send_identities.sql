INSERT INTO `reindex_staging_{owner}_{group}_identities` (`customer`, `profile`, `scorecard_id`) FORMAT ArrowStream
