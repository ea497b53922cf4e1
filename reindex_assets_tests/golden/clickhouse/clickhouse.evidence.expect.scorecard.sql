SELECT
    count() AS found,
    ifNull(sum(toUInt64(bitShiftRight(toUInt128(scorecard_id), 64))), 0) * 1 + ifNull(sum(toUInt64(bitAnd(toUInt128(scorecard_id), toUInt128(18446744073709551615)))), 0) * 3 + ifNull(sum(toUInt64(bitShiftRight(toUInt128(template_id), 64))), 0) * 5 + ifNull(sum(toUInt64(bitAnd(toUInt128(template_id), toUInt128(18446744073709551615)))), 0) * 7 + ifNull(sum(toUInt64(bitShiftRight(toUInt128(template_revision_id), 64))), 0) * 9 + ifNull(
        sum(toUInt64(bitAnd(toUInt128(template_revision_id), toUInt128(18446744073709551615)))), 0
    ) * 11 + ifNull(
        sum(reinterpretAsUInt64(toUnixTimestamp64Micro(scorecard_time))), 0
    ) * 13 + ifNull(sum(reinterpretAsUInt64(toUnixTimestamp64Micro(created_at))), 0) * 15 + ifNull(sum(reinterpretAsUInt64(toUnixTimestamp64Micro(updated_at))), 0) * 17 + ifNull(
        sum(reinterpretAsUInt64(toUnixTimestamp64Micro(submitted_at))), 0
    ) * 19 + ifNull(sum(reinterpretAsUInt64(score)), 0) * 21 AS checksum
FROM scorecard
WHERE customer IN {customers:Array(String)}
  AND (
      NOT has({limited:Array(String)}, customer)
      OR has({profiles:Array(String)}, concat(customer, '/', profile))
  )
  AND template_type = {template_type:UInt8}
  AND day IN {days:Array(Date32)}
  AND version = {snapshot:UInt64}
