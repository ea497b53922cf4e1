SELECT customer, day, count() AS vanished
FROM `reindex_staging_{owner}_{group}_score_difference`
WHERE delete_below > 0
  AND NOT is_staged
  AND (
      (customer, profile, scorecard_id) NOT IN (
          SELECT customer, profile, scorecard_id FROM `reindex_staging_{owner}_{group}_identities`
      )
      OR (day, customer, profile, scorecard_id) IN (
          SELECT day, customer, profile, scorecard_id FROM `reindex_staging_{owner}_{group}_scorecard`
      )
  )
GROUP BY customer, day
