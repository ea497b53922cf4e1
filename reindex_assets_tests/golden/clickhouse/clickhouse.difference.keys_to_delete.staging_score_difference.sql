SELECT
    customer,
    {template_type:UInt8} AS template_type,
    day, profile,
    scorecard_id,
    score_id,
    delete_below,
    delete_below < {snapshot:UInt64} AS has_right_row
FROM `reindex_staging_{owner}_{group}_score_difference`
WHERE delete_below > 0
