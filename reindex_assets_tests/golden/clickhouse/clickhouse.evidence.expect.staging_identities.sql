SELECT
    count() AS found,
    ifNull(sum(toUInt64(bitShiftRight(toUInt128(scorecard_id), 64))), 0) * 1 + ifNull(
        sum(toUInt64(bitAnd(toUInt128(scorecard_id), toUInt128(18446744073709551615)))), 0
    ) * 3 AS checksum
FROM `reindex_staging_{owner}_{group}_identities`
