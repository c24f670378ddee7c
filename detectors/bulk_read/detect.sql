-- grain: visit; reads visits, key_history
-- A day that sets a record has probability 1 / (n + 1) after n days alike, and by how much it is
-- over the largest one has a Pareto tail, as sizes of downloads have (Crovella and Bestavros 1997).
SELECT
    v.key_id, v.day, v.prefix,
    log2(h.active_days + 1)
        + $tail_index
            * log2(v.response_bytes / greatest(h.max_response_bytes, $least_largest_bytes))
        AS bits,
    format('at most {} a day over {}', bytes(h.max_response_bytes), counted(h.active_days, 'day'))
        AS typical,
    bytes(v.response_bytes) AS actual,
    'more data read than on any previous day' AS explanation
FROM visits AS v
JOIN key_history AS h USING (key_id)
WHERE v.response_bytes >= $fewest_bytes AND v.response_bytes > h.max_response_bytes
    AND h.active_days > 0
