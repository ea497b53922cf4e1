SELECT customer, template_type, day, profile, scorecard_id
FROM `reindex_staging_{owner}_{group}_appeal_places`
WHERE (customer, profile, scorecard_id) IN (
    SELECT customer, profile, scorecard_id FROM `reindex_staging_{owner}_{group}_identities`
)
