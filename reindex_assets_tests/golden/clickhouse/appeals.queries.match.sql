CREATE TABLE `reindex_staging_{owner}_{group}_appeal_places`
ENGINE = MergeTree
ORDER BY tuple() AS
SELECT
    customer,
    template_type,
    day, profile,
    scorecard_id,
    any(appeal.scorecard_type) AS scorecard_type,
    countIf(is_scorecard = 1) AS scorecards,
    countIf(is_scorecard = 0) AS scores,
    (customer, profile, scorecard_id) IN (
        SELECT customer, profile, scorecard_id FROM `reindex_staging_{owner}_{group}_identities`
    ) AS is_attempted
FROM (
    SELECT customer, template_type, day, profile, scorecard_id, 0 AS is_scorecard
    FROM score
    WHERE customer IN {customers:Array(String)}
      AND (
          NOT has({limited:Array(String)}, customer)
          OR has({profiles:Array(String)}, concat(customer, '/', profile))
      )
      AND scorecard_id IN (SELECT scorecard_id FROM `reindex_staging_{owner}_{group}_appeals`)
    UNION ALL
    SELECT customer, template_type, day, profile, scorecard_id, 1 AS is_scorecard
    FROM scorecard
    WHERE customer IN {customers:Array(String)}
      AND (
          NOT has({limited:Array(String)}, customer)
          OR has({profiles:Array(String)}, concat(customer, '/', profile))
      )
      AND scorecard_id IN (SELECT scorecard_id FROM `reindex_staging_{owner}_{group}_appeals`)
) AS live
INNER JOIN `reindex_staging_{owner}_{group}_appeals` AS appeal USING (customer, profile, scorecard_id)
WHERE is_asked
OR day IN {days:Array(Date32)}
GROUP BY customer, template_type, day, profile, scorecard_id
