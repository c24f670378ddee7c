-- grain: key; reads keys, successors
WITH ages AS (
    SELECT *, date_diff('day', created_at, $end::TIMESTAMP) AS age_days,
        created_at::DATE + $rotation_days::INTEGER AS due_on
    FROM keys
    WHERE coalesce(least(revoked_at, expires_at), $end::TIMESTAMP) >= $end
),

replaced AS (
    SELECT replaces AS key_id, max(key_id) AS successor
    FROM successors
    WHERE NOT is_guess
    GROUP BY replaces
)

SELECT
    key_id, NULL AS day, NULL AS prefix,
    $bits_per_period * log2(age_days / $rotation_days) AS bits,
    format('rotated every {}', counted($rotation_days, 'day')) AS typical,
    format('created {} ago', counted(age_days, 'day')) AS actual,
    format('rotation overdue by {}, since {}', counted(age_days - $rotation_days, 'day'), due_on)
        || coalesce(format('; {} was created to replace it', successor), '') AS explanation,
    due_on, true AS rotate
FROM ages
LEFT JOIN replaced USING (key_id)
WHERE age_days > $rotation_days
