SELECT scorecard_id FROM `reindex_staging_{owner}_{group}_canary`
