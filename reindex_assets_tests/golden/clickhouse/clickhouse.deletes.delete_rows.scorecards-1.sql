DELETE
FROM reindex_staging_{owner}_{group}_canary IN
PARTITION 200001
WHERE (customer, template_type, day, profile, scorecard_id) IN %(keys)s
AND version < %(older_than)s
