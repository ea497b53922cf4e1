SELECT
    count() AS total,
    countIf(
        is_held
        OR positiveModulo(
            intDiv(
                toUnixTimestamp64Micro(scorecard_time) - positiveModulo(
                    toUnixTimestamp64Micro(scorecard_time), 1000000
                ),
                1000000
            ),
            1
        ) = {shard:UInt16}
    ) AS placed_1,
    countIf(
        is_held
        OR positiveModulo(
            intDiv(
                toUnixTimestamp64Micro(scorecard_time) - positiveModulo(
                    toUnixTimestamp64Micro(scorecard_time), 1000000
                ),
                1000000
            ),
            2
        ) = {shard:UInt16}
    ) AS placed_2,
    countIf(
        is_held
        OR positiveModulo(
            intDiv(
                toUnixTimestamp64Micro(scorecard_time) - positiveModulo(
                    toUnixTimestamp64Micro(scorecard_time), 1000000
                ),
                1000000
            ),
            3
        ) = {shard:UInt16}
    ) AS placed_3,
    countIf(
        is_held
        OR positiveModulo(
            intDiv(
                toUnixTimestamp64Micro(scorecard_time) - positiveModulo(
                    toUnixTimestamp64Micro(scorecard_time), 1000000
                ),
                1000000
            ),
            4
        ) = {shard:UInt16}
    ) AS placed_4,
    countIf(
        is_held
        OR positiveModulo(
            intDiv(
                toUnixTimestamp64Micro(scorecard_time) - positiveModulo(
                    toUnixTimestamp64Micro(scorecard_time), 1000000
                ),
                1000000
            ),
            5
        ) = {shard:UInt16}
    ) AS placed_5,
    countIf(
        is_held
        OR positiveModulo(
            intDiv(
                toUnixTimestamp64Micro(scorecard_time) - positiveModulo(
                    toUnixTimestamp64Micro(scorecard_time), 1000000
                ),
                1000000
            ),
            6
        ) = {shard:UInt16}
    ) AS placed_6,
    countIf(
        is_held
        OR positiveModulo(
            intDiv(
                toUnixTimestamp64Micro(scorecard_time) - positiveModulo(
                    toUnixTimestamp64Micro(scorecard_time), 1000000
                ),
                1000000
            ),
            7
        ) = {shard:UInt16}
    ) AS placed_7,
    countIf(
        is_held
        OR positiveModulo(
            intDiv(
                toUnixTimestamp64Micro(scorecard_time) - positiveModulo(
                    toUnixTimestamp64Micro(scorecard_time), 1000000
                ),
                1000000
            ),
            8
        ) = {shard:UInt16}
    ) AS placed_8,
    countIf(
        is_held
        OR positiveModulo(
            intDiv(
                toUnixTimestamp64Micro(scorecard_time) - positiveModulo(
                    toUnixTimestamp64Micro(scorecard_time), 1000000
                ),
                1000000
            ),
            9
        ) = {shard:UInt16}
    ) AS placed_9,
    countIf(
        is_held
        OR positiveModulo(
            intDiv(
                toUnixTimestamp64Micro(scorecard_time) - positiveModulo(
                    toUnixTimestamp64Micro(scorecard_time), 1000000
                ),
                1000000
            ),
            10
        ) = {shard:UInt16}
    ) AS placed_10,
    countIf(
        is_held
        OR positiveModulo(
            intDiv(
                toUnixTimestamp64Micro(scorecard_time) - positiveModulo(
                    toUnixTimestamp64Micro(scorecard_time), 1000000
                ),
                1000000
            ),
            11
        ) = {shard:UInt16}
    ) AS placed_11,
    countIf(
        is_held
        OR positiveModulo(
            intDiv(
                toUnixTimestamp64Micro(scorecard_time) - positiveModulo(
                    toUnixTimestamp64Micro(scorecard_time), 1000000
                ),
                1000000
            ),
            12
        ) = {shard:UInt16}
    ) AS placed_12
FROM (SELECT scorecard_time, false AS is_held FROM scorecard WHERE template_type = {template_type:UInt8})
