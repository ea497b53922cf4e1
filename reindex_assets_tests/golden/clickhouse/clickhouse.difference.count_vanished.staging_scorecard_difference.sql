SELECT customer, day, count() AS vanished
FROM `reindex_staging_{owner}_{group}_scorecard_difference`
WHERE delete_below > 0
  AND NOT is_staged
  AND (customer, profile, scorecard_id) NOT IN (
      SELECT customer, profile, scorecard_id FROM `reindex_staging_{owner}_{group}_identities`
  )
GROUP BY customer, day
