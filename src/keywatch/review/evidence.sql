-- grain: key_id, detector, explanation; what the detectors say against each case, the most first.
-- Reads the window's scored_evidence and scored_cases.
WITH cases AS (
    SELECT c.key_id, c.day, c.prefix, v.network
    FROM scored_cases AS c
    LEFT JOIN visits AS v USING (key_id, day, prefix)
),

-- The visits of a key at a network that is new to it are scored as one: each detector
-- is shown where it says most.
scored AS (
    SELECT c.key_id, v.day, v.prefix, v.day = c.day AND v.prefix = c.prefix AS worst
    FROM cases AS c
    JOIN visits AS v USING (key_id)
    WHERE v.day = c.day AND v.prefix = c.prefix OR v.network = c.network
        AND EXISTS (FROM new_networks AS n
            WHERE n.key_id = v.key_id AND n.network = v.network)
),

said AS (
    SELECT e.*, j.worst, sum(e.bits) OVER (
        PARTITION BY e.key_id, e.detector, j.day, j.prefix) AS visit_bits
    FROM scored_evidence AS e
    JOIN scored AS j ON j.key_id = e.key_id AND j.day = coalesce(e.day, j.day)
        AND j.prefix = coalesce(e.prefix, j.prefix)
    WHERE e.day IS NOT NULL
    UNION ALL
    SELECT e.*, true, e.bits
    FROM scored_evidence AS e
    SEMI JOIN scored_cases USING (key_id)
    WHERE e.day IS NULL
)

SELECT DISTINCT s.* EXCLUDE (worst, visit_bits),
    f.action AS fact_action, s.detector IN (FROM rules) AS is_rule
FROM (
    FROM said
    QUALIFY rank() OVER (PARTITION BY key_id, detector
        ORDER BY visit_bits DESC, worst DESC, day, prefix) = 1
    UNION
    -- What a fact asks for that is no theft counts for the key, whatever its visit.
    SELECT e.*, false, e.bits
    FROM scored_evidence AS e
    SEMI JOIN scored_cases USING (key_id)
    JOIN facts AS f
        ON f.detector = e.detector AND e.bits >= f.certain_bits AND f.action <> 'revoke'
) AS s
LEFT JOIN facts AS f ON f.detector = s.detector AND s.bits >= f.certain_bits
WHERE s.bits > 0
ORDER BY bits DESC, s.detector, day, prefix, explanation, actual
