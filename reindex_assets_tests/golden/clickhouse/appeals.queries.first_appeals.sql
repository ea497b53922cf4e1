SELECT customer, profile, scorecard_id, min(day) AS day
FROM `reindex_staging_{owner}_{group}_appeal_places`
GROUP BY customer, profile, scorecard_id
ORDER BY day, customer, profile, toString(scorecard_id)
LIMIT {limit:UInt64}
