SELECT
    customer,
    day, countIf(is_upsert AND live_rows = 0) AS missing,
    countIf(is_upsert AND live_rows > 0) AS changed,
    countIf(delete_below > 0 AND NOT is_upsert AND (NOT is_staged OR newest < {snapshot:UInt64})) AS extra,
    countIf(delete_below > 0 AND NOT is_staged) AS unexpected,
    countIf(NOT is_upsert AND NOT is_copied AND newest >= {snapshot:UInt64}) AS newer,
    countIf(is_copied) AS copied
FROM `reindex_staging_{owner}_{group}_score_difference`
GROUP BY customer, day
