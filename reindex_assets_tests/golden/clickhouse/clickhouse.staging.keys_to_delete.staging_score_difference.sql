SELECT customer, {template_type:UInt8} AS template_type, day, profile, scorecard_id, score_id
FROM `reindex_staging_{owner}_{group}_score_difference`
WHERE is_delete
