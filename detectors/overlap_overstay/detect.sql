-- grain: key; reads visits, keys, successors
WITH rotations AS (
    SELECT s.replaces AS key_id, any_value(s.key_id) AS successor,
        any_value(s.is_guess) AS is_guess,
        any_value(s.created_at)::DATE AS made_on, max(v.day) AS last_day
    FROM successors AS s
    JOIN visits AS v ON v.key_id = s.replaces
    JOIN keys AS k ON k.key_id = s.replaces
    WHERE k.revoked_at IS NULL AND coalesce(k.expires_at, $end::TIMESTAMP) >= $end
    GROUP BY s.replaces
)

SELECT
    key_id, NULL AS day, NULL AS prefix, $overstay_bits AS bits,
    format('at most {} of overlap in a rotation', counted($overlap_days, 'day')) AS typical,
    format('used on {}, {} after {} was created', last_day, counted(last_day - made_on, 'day'),
        successor) AS actual,
    CASE WHEN is_guess
        THEN format('{} appears to be its successor, by its name: if so, switch the remaining '
            'consumers and revoke the old key; if no one on your side created it, treat it as '
            'stolen', successor)
        ELSE 'rotation not finished: switch the remaining consumers and revoke the old key'
    END AS explanation,
    made_on + $overlap_days::INTEGER AS due_on, true AS rotate
FROM rotations
WHERE last_day - made_on > $overlap_days
