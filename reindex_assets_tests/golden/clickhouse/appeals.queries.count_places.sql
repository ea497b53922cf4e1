SELECT
    toString(customer) AS name,
    scorecard_type,
    uniqExact(profile, scorecard_id) AS appeals,
    sum(scorecards) AS scorecards,
    sum(scores) AS scores
FROM `reindex_staging_{owner}_{group}_appeal_places`
WHERE is_attempted
  OR NOT {attempted_only:Bool}
GROUP BY customer, scorecard_type
