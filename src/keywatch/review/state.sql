-- grain: the lake; what a review of the window from $start to $end rests on, as marks that differ
-- when it does. Loads of later days alone, and what a review of the window itself stores, leave
-- them as they are.
SELECT
    (SELECT max(load_id) FROM lake.activity WHERE day < $end),
    (SELECT min(first_ts) FROM lake.ingested_files),
    (SELECT concat_ws(' ', count(*), max(load_id)) FROM lake.rejects
        WHERE key_id IS NOT NULL AND ts < $end),
    (SELECT max(load_id) FROM lake.path_templates),
    -- An address that is asked for again may be placed elsewhere.
    (SELECT count(*) - count(DISTINCT hash(address)) FROM lake.origins),
    (SELECT max(import_id) FROM lake.keys),
    (SELECT count(*) FROM lake.verdicts),
    (SELECT count(*) FROM lake.leaked_keys),
    (SELECT bit_xor(hash(f.key_id, f.window_start, f.window_end, f.day, f.prefix))::VARCHAR
        FROM lake.flagged_visits AS f
        WHERE f.window_start < $start OR f.day < $start OR EXISTS (
            FROM lake.verdicts AS v
            WHERE v.key_id = f.key_id AND v.window_start = f.window_start
                AND v.window_end = f.window_end)),
    (SELECT bit_xor(hash(window_start, window_end, load_id))::VARCHAR
        FROM lake.review_queue WHERE is_late AND window_start < $start),
    (SELECT least(min(window_start), $start) FROM lake.runs),
    -- Events that are gone name no key any more.
    (SELECT max(events_before) FROM lake.maintenance WHERE events_before > $start)
