-- grain: visit; reads window_activity, visit_objects, baseline_objects, key_history
-- Log-likelihood ratio of each object of a visit: a stranger, to whom nearly every object is a new
-- one, against the key, by how often its objects at that endpoint are new (Good-Turing: distinct
-- objects in object-days; backing off to all its endpoints). Keys that walk along new ids are used
-- to them.
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

-- Of many objects only the smallest hashes are kept: up to `bound` all of them are known, which is
-- a fair sample. A visit has no fewer objects than its largest part, and no more than its parts
-- together.
sketches AS (
    SELECT key_id, day, prefix, max(objects) AS least, sum(objects) AS most,
        min(object_hashes[-1]) FILTER (objects > $sketch_objects) AS bound
    FROM window_activity
    GROUP BY ALL
),

chances AS (
    SELECT
        v.*, k.object IS NULL AS is_new,
        predictive(t.objects, t.object_days, 0.5, $prior_objects) AS new_to_key,
        least(predictive(coalesce(r.objects, 0), coalesce(r.object_days, 0), new_to_key,
            $prior_objects),
            $new_to_a_stranger) AS new
    FROM visit_objects AS v
    JOIN totals AS t USING (key_id)
    LEFT JOIN rates AS r ON r.key_id = v.key_id AND r.endpoint = v.endpoint
    LEFT JOIN known AS k ON k.key_id = v.key_id AND k.object = v.object
),

scored AS (
    SELECT key_id, day, prefix, any_value(s.bound) AS bound, any_value(s.least) AS least,
        any_value(s.most) AS most,
        count(DISTINCT object) FILTER (object <= coalesce(s.bound, object)) AS known,
        count(DISTINCT object) FILTER (is_new AND object <= coalesce(s.bound, object)) AS known_new,
        sum(exact(CASE WHEN is_new THEN least(log2($new_to_a_stranger / new), $most_bits_an_object)
            ELSE log2((1 - $new_to_a_stranger) / (1 - new)) END))::DOUBLE AS bits
    FROM chances
    JOIN sketches AS s USING (key_id, day, prefix)
    GROUP BY ALL
),

counted_objects AS (
    SELECT *, CASE WHEN bound IS NULL THEN known
        ELSE greatest(least, least(most, round(known * pow(2, 32) / (bound + 1)))) END AS objects
    FROM scored
)

SELECT
    s.key_id, s.day, s.prefix, greatest(s.bits, -$most_familiar_bits) AS bits,
    format('{}{} over {}', CASE WHEN h.max_objects > $sketch_objects THEN 'at least ' ELSE '' END,
        counted(t.objects, 'object'), counted(h.active_days, 'day')) AS typical,
    format('{}{} of {} new', CASE WHEN s.bound IS NULL THEN '' ELSE 'about ' END,
        round(s.objects * s.known_new / s.known)::BIGINT, counted(s.objects, 'object')) AS actual,
    CASE WHEN s.bits > 0 THEN 'objects this key has never accessed before'
        ELSE 'objects this key usually accesses' END AS explanation
FROM counted_objects AS s
JOIN totals AS t USING (key_id)
JOIN key_history AS h USING (key_id)
