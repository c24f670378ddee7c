-- grain: visit; reads visit_objects, baseline_objects, key_history
-- Log-likelihood ratio of each object of a visit: a stranger, to whom nearly every object is a new one,
-- against the key, by how often its objects at that endpoint are new (Good-Turing: distinct objects in
-- object-days; backing off to all its endpoints). Keys that walk along new ids are used to them.
WITH rates AS (
    SELECT key_id, endpoint, count(*) AS objects, sum(days) AS object_days
    FROM baseline_objects
    GROUP BY ALL
),

totals AS (
    SELECT key_id, count(DISTINCT object) AS objects, sum(days) AS object_days
    FROM baseline_objects
    GROUP BY ALL
),

known AS (SELECT DISTINCT key_id, object FROM baseline_objects),

chances AS (
    SELECT
        v.*, k.object IS NULL AS is_new,
        predictive(t.objects, t.object_days, 0.5, $prior_objects) AS new_to_key,
        least(predictive(coalesce(r.objects, 0), coalesce(r.object_days, 0), new_to_key, $prior_objects),
            $new_to_a_stranger) AS new
    FROM visit_objects AS v
    JOIN totals AS t USING (key_id)
    LEFT JOIN rates AS r ON r.key_id = v.key_id AND r.endpoint = v.endpoint
    LEFT JOIN known AS k ON k.key_id = v.key_id AND k.object = v.object
),

scored AS (
    SELECT key_id, day, prefix, count(DISTINCT object) AS objects,
        count(DISTINCT object) FILTER (is_new) AS new_objects,
        sum(CASE WHEN is_new THEN least(log2($new_to_a_stranger / new), $most_bits_an_object)
            ELSE log2((1 - $new_to_a_stranger) / (1 - new)) END) AS bits
    FROM chances
    GROUP BY ALL
)

SELECT
    s.key_id, s.day, s.prefix, greatest(s.bits, -$most_familiar_bits) AS bits,
    format('{} on {}', counted(t.objects, 'object'), counted(h.active_days, 'day')) AS typical,
    format('{} of {} new', s.new_objects, counted(s.objects, 'object')) AS actual,
    CASE WHEN s.bits > 0 THEN 'objects that this key never touched'
        ELSE 'the objects that this key always touches' END AS explanation
FROM scored AS s
JOIN totals AS t USING (key_id)
JOIN key_history AS h USING (key_id)
