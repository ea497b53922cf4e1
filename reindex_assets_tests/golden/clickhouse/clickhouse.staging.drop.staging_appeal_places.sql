DROP TABLE IF EXISTS `reindex_staging_{owner}_{group}_appeal_places` SYNC
