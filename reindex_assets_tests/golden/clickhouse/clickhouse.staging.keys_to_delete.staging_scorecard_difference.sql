SELECT customer, {template_type:UInt8} AS template_type, day, profile, scorecard_id
FROM `reindex_staging_{owner}_{group}_scorecard_difference`
WHERE is_delete
