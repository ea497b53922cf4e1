WITH RECURSIVE tried (slot, is_held) AS (
    SELECT 1, pg_try_advisory_lock(1919248760, 1)
    UNION ALL
    SELECT slot + 1, pg_try_advisory_lock(1919248760, slot + 1)
    FROM tried
    WHERE NOT is_held
      AND slot < $1::int
)
SELECT slot
FROM tried
WHERE is_held
