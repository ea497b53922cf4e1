INSERT INTO `reindex_staging_{owner}_{group}_appeals` (
    `customer`, `profile`, `scorecard_id`, `scorecard_type`, `is_asked`
) FORMAT ArrowStream
