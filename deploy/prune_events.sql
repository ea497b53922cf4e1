-- Makes room in Dagster's Postgres: psql -v days=30 -f deploy/prune_events.sql, every night, with the daemon at work.
--
-- Of runs that ended more than so many days ago it deletes the events and the check results that later ones have replaced. What it keeps of
-- them, however old it is: the latest materialization of each asset's partition and the latest result of each check's partition, with its event. So the UI goes on
-- showing what is done and green (Dagster's own "delete run" would make these partitions missing again), and only the log of an old run is empty.
-- Failed attempts of that age are forgotten: such a partition shows as it was before them.
BEGIN;

CREATE TEMPORARY TABLE old_runs ON COMMIT DROP AS
SELECT run_id
FROM runs
WHERE status IN ('SUCCESS', 'FAILURE', 'CANCELED')
    AND end_time < extract(epoch FROM now()) - :days * 86400;

DELETE FROM asset_check_executions
WHERE run_id IN (SELECT run_id FROM old_runs)
    AND id NOT IN (
        SELECT max(id)
        FROM asset_check_executions
        WHERE execution_status IN ('SUCCEEDED', 'FAILED')
        GROUP BY asset_key, check_name, partition
    );

CREATE TEMPORARY TABLE kept_events ON COMMIT DROP AS
SELECT max(id) AS id
FROM event_logs
WHERE dagster_event_type = 'ASSET_MATERIALIZATION'
GROUP BY asset_key, partition
UNION
SELECT evaluation_event_storage_id
FROM asset_check_executions
WHERE evaluation_event_storage_id IS NOT NULL;

DELETE FROM event_logs
WHERE run_id IN (SELECT run_id FROM old_runs)
    AND id NOT IN (SELECT id FROM kept_events);

COMMIT;

-- The space is used again by new rows; VACUUM FULL would give it back, and lock Dagster out meanwhile.
VACUUM (ANALYZE) event_logs;
VACUUM (ANALYZE) asset_check_executions;
