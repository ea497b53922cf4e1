WITH standing AS MATERIALIZED (
    SELECT
        pg_is_in_recovery() AS is_standby,
        CASE
            WHEN pg_is_in_recovery() THEN least(
                now(), coalesce(
                    pg_last_xact_replay_timestamp(), (SELECT checkpoint_time FROM pg_control_checkpoint())
                )
            )
            ELSE now()
        END AS shown,
        CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() END AS received,
        CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() END AS replayed,
        (SELECT pid FROM pg_stat_wal_receiver) AS receiver,
        (SELECT latest_end_lsn FROM pg_stat_wal_receiver) AS announced
)
SELECT
    is_standby,
    floor(extract(epoch FROM shown) * 1000000)::bigint AS microseconds,
    extract(epoch FROM now() - shown)::float8 AS age_seconds,
    receiver || ' ' || received AS position,
    (
        receiver IS NOT NULL AND received <= replayed AND coalesce(announced <= replayed, true)
    ) IS TRUE AS caught_up
FROM standing
