DROP TABLE IF EXISTS `reindex_staging_{owner}_{group}_canary` SYNC
