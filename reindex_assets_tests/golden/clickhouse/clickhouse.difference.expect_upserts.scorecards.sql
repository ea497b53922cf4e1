SELECT count() AS found
FROM `reindex_staging_{owner}_{group}_scorecard_difference`
WHERE is_upsert
  AND (customer, day, profile, scorecard_id) NOT IN (
      SELECT customer, day, profile, scorecard_id
      FROM scorecard
      WHERE customer IN {customers:Array(String)}
        AND (
            NOT has({limited:Array(String)}, customer)
            OR has({profiles:Array(String)}, concat(customer, '/', profile))
        )
        AND template_type = {template_type:UInt8}
        AND day IN {days:Array(Date32)}
        AND version >= {snapshot:UInt64}
        AND (customer, day, profile, scorecard_id) IN (
            SELECT customer, day, profile, scorecard_id
            FROM `reindex_staging_{owner}_{group}_scorecard_difference`
            WHERE is_upsert
        )
  )
