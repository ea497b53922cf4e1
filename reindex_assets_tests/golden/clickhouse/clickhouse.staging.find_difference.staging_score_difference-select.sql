SELECT
    customer,
    day, countIf(is_upsert AND live_rows = 0) AS missing,
    countIf(is_upsert AND live_rows > 0) AS changed,
    countIf(NOT is_staged AND is_delete) AS extra,
    countIf(NOT is_upsert AND newest >= {snapshot:UInt64}) AS newer
FROM `reindex_staging_{owner}_{group}_score_difference`
GROUP BY customer, day
