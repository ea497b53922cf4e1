SELECT customer, template_type, day, profile, scorecard_id, scorecard_type, scorecards, scores
FROM `reindex_staging_{owner}_{group}_appeal_places`
WHERE is_attempted
  OR NOT {attempted_only:Bool}
ORDER BY day, customer, profile, toString(scorecard_id)
LIMIT {limit:UInt64}
