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
    format('{} of overlap at a rotation', counted($overlap_days, 'day')) AS typical,
    format('used on {}, {} after {} was made', last_day, counted(last_day - made_on, 'day'),
        successor) AS actual,
    CASE WHEN is_guess
        THEN format('{} looks like its successor, by its name: if it is, switch the last consumers '
            'and revoke the old key; if nobody of yours made it, treat it as stolen', successor)
        ELSE 'the rotation is not finished: switch the last consumers and revoke the old key'
    END AS explanation,
    made_on + $overlap_days::INTEGER AS due_on, true AS rotate
FROM rotations
WHERE last_day - made_on > $overlap_days
