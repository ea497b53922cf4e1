SELECT count() AS found
FROM `reindex_staging_{owner}_{group}_score_difference`
WHERE is_upsert
  AND (customer, day, profile, scorecard_id, score_id) NOT IN (
      SELECT customer, day, profile, scorecard_id, score_id
      FROM score
      WHERE customer IN {customers:Array(String)}
        AND (
            NOT has({limited:Array(String)}, customer)
            OR has({profiles:Array(String)}, concat(customer, '/', profile))
        )
        AND template_type = {template_type:UInt8}
        AND day IN {days:Array(Date32)}
        AND version >= {snapshot:UInt64}
        AND (customer, day, profile, scorecard_id, score_id) IN (
            SELECT customer, day, profile, scorecard_id, score_id
            FROM `reindex_staging_{owner}_{group}_score_difference`
            WHERE is_upsert
        )
  )
