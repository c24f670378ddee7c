-- grain: key; reads keys
WITH ages AS (
    SELECT *, date_diff('day', created_at, $end::TIMESTAMP) AS age_days
    FROM keys
    WHERE coalesce(least(revoked_at, expires_at), $end::TIMESTAMP) >= $end
)

SELECT
    key_id, NULL AS day, NULL AS prefix,
    $bits_per_period * log2(age_days / $rotation_days) AS bits,
    format('rotated every {}', counted($rotation_days, 'day')) AS typical,
    format('made {} ago', counted(age_days, 'day')) AS actual,
    format('rotation is {} overdue', counted(age_days - $rotation_days, 'day')) AS explanation
FROM ages
WHERE age_days > $rotation_days
