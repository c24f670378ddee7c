-- What dashboards read of a lake that is attached as `lake`: views in the memory of DuckDB.
-- They read only, need no Keywatch, and are as of each query.

-- grain: alert_id; the alerts that are not over
CREATE OR REPLACE VIEW alerts_in_force AS
WITH newest AS (
    FROM lake.alerts
    QUALIFY row_number() OVER (PARTITION BY alert_id ORDER BY change DESC) = 1
),

assigned AS (
    SELECT alert_id, text AS assigned_to
    FROM lake.alert_notes
    WHERE kind = 'assigned'
    QUALIFY row_number() OVER (PARTITION BY alert_id ORDER BY sequence DESC) = 1
)

SELECT
    n.alert_id, n.kind, n.action, n.state, n.bits, n.key_ids, n.opened_at, n.changed_at,
    n.window_start, n.window_end, n.why, nullif(a.assigned_to, '') AS assigned_to
FROM newest AS n
LEFT JOIN assigned AS a USING (alert_id)
WHERE n.state <> 'closed';

-- grain: run_id; the newest run of each window
CREATE OR REPLACE VIEW newest_runs AS
FROM lake.runs
QUALIFY row_number() OVER (
    PARTITION BY window_start, window_end ORDER BY lake_snapshot DESC, made_at DESC) = 1;

-- grain: window_start, window_end, action; keys to act on, as the newest run of the window scored
-- them, before verdicts
CREATE OR REPLACE VIEW cases_by_window AS
SELECT
    r.window_start, r.window_end, strftime(r.window_start, '%G-W%V') AS week, c.action,
    count(*) AS keys, max(c.bits) AS most_bits
FROM newest_runs AS r
JOIN lake.cases AS c USING (run_id)
WHERE c.action <> 'none'
GROUP BY ALL;

-- grain: day; what was called, by how many keys, from how many addresses
CREATE OR REPLACE VIEW activity_by_day AS
SELECT
    day, sum(events)::BIGINT AS requests, count(DISTINCT key_id) AS keys,
    count(DISTINCT address) AS addresses,
    coalesce(sum(events) FILTER (status_class IN ('401', '403')), 0)::BIGINT AS denied
FROM lake.activity
GROUP BY day;

-- grain: run_id; how complete the data of a run was
CREATE OR REPLACE VIEW coverage_by_run AS
SELECT
    run_id, window_start, window_end, made_at, version, lake_snapshot,
    (coverage ->> 'events')::BIGINT AS requests,
    (coverage ->> 'keys')::BIGINT AS keys,
    (coverage ->> 'assessed')::BIGINT AS assessed,
    (coverage ->> 'warming_up')::BIGINT AS warming_up,
    (coverage ->> 'not_assessable')::BIGINT AS not_assessable,
    (coverage ->> 'silent')::BIGINT AS silent,
    (coverage ->> 'rejected_lines')::BIGINT AS rejected_lines,
    (coverage ->> 'held_back_events')::BIGINT AS held_back_events
FROM lake.runs;
