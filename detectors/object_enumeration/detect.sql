-- grain: visit; reads visits, key_history
-- Tail of a Gamma-Poisson whose mean and shape are the key's own, by moments; and never more than
-- the largest day so far allows: each tenfold of it adds no more than bits_per_decade.
WITH expected AS (
    SELECT
        v.key_id, v.day, v.prefix, v.objects, h.active_days, h.max_objects,
        h.mean_objects,
        (h.mean_objects * h.active_days + $prior_objects_per_day * $prior_days)
            / (h.active_days + $prior_days) AS mu,
        h.var_objects AS variance
    FROM visits AS v
    JOIN key_history AS h USING (key_id)
    WHERE v.objects >= $fewest_objects AND v.objects > h.max_objects AND h.active_days > 0
)

SELECT
    key_id, day, prefix,
    least(
        tail_bits(objects, mu, greatest($least_shape, least($most_shape,
            CASE WHEN variance > mu THEN mu * mu / (variance - mu) ELSE $most_shape END))),
        $bits_per_decade * log10(objects / greatest(max_objects, 1))
    ) AS bits,
    CASE WHEN max_objects = 0 THEN format('no objects over {}', counted(active_days, 'day'))
        ELSE format('{:.1f} objects a day, at most {}', mean_objects, max_objects) END AS typical,
    counted(objects, 'object') AS actual,
    'more distinct objects than on any previous day' AS explanation
FROM expected
