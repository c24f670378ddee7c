-- grain: key; reads keys, successors
WITH ages AS (
    SELECT key_id, date_diff('day', created_at, $end::TIMESTAMP) AS age_days,
        created_at::DATE + $rotation_days::INTEGER AS due_on
    FROM keys
    -- Who ends before that day, or has a successor, needs no reminder.
    ANTI JOIN successors AS s ON s.replaces = keys.key_id
    WHERE coalesce(least(revoked_at, expires_at), due_on + 1) > due_on
)

SELECT
    key_id, NULL AS day, NULL AS prefix, $due_bits AS bits,
    format('rotated every {}', counted($rotation_days, 'day')) AS typical,
    format('created {} ago', counted(age_days, 'day')) AS actual,
    format('rotate by {}', due_on) AS explanation,
    due_on, true AS rotate
FROM ages
WHERE age_days BETWEEN $rotation_days - $notice_days AND $rotation_days
