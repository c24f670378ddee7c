-- grain: visit; reads visits, key_history
-- As bulk_read: a record after n days, and by how much it is over the largest day so far.
SELECT
    v.key_id, v.day, v.prefix,
    least($most_bits, log2(h.active_days + 1)
        + $tail_index * log2(v.throttled / greatest(h.max_throttled, 1))) AS bits,
    format('{} a day at most, on {}', counted(h.max_throttled, 'throttled call'),
        counted(h.active_days, 'day')) AS typical,
    counted(v.throttled, 'throttled call') AS actual,
    'the rate limit stops this key more often than on any day before (429)' AS explanation
FROM visits AS v
JOIN key_history AS h USING (key_id)
WHERE v.throttled > h.max_throttled AND h.active_days > 0
