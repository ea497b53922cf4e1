DROP TABLE IF EXISTS `reindex_staging_{owner}_{group}_score_difference` SYNC
