-- grain: key, day, of the window and of the baseline; reads baseline_days, window_days, key_history
-- Features of an isolation forest: counts of a day, one column each.
SELECT key_id, day, false AS is_window, events, addresses, endpoints, agents, objects,
    denied, response_bytes AS answer_bytes
FROM baseline_days
JOIN (SELECT key_id FROM key_history WHERE active_days >= $fewest_days) USING (key_id)
UNION ALL
SELECT key_id, day, true, events, addresses, endpoints, agents, objects, denied,
    response_bytes
FROM window_days
JOIN (SELECT key_id FROM key_history WHERE active_days >= $fewest_days) USING (key_id)
ORDER BY key_id, day
