-- grain: key; reads visits, keys, successors
SELECT
    s.replaces AS key_id, NULL AS day, NULL AS prefix, $overstay_bits AS bits,
    format('{} of overlap at a rotation', counted($overlap_days, 'day')) AS typical,
    format('used on {}, {} after {} was made', max(v.day),
        counted(max(v.day) - any_value(s.created_at)::DATE, 'day'), any_value(s.key_id)) AS actual,
    'the rotation is not finished: switch the last consumers and revoke the old key' AS explanation
FROM successors AS s
JOIN visits AS v ON v.key_id = s.replaces
JOIN keys AS k ON k.key_id = s.replaces
WHERE k.revoked_at IS NULL
GROUP BY s.replaces
HAVING max(v.day) - any_value(s.created_at)::DATE > $overlap_days
