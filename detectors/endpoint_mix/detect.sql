-- grain: visit; reads visit_endpoints, baseline_endpoints, key_history
-- How much nearer a visit's mix is to no preference at all (each endpoint that the key knows,
-- alike) than to the key's own mix: the difference of the Kullback-Leibler divergences, times the
-- requests. Requests of a visit depend on each other, so no more than some count. Less than 0 bits
-- speaks for the owner.
WITH own AS (
    SELECT key_id, endpoint, count(*) OVER by_key AS endpoints,
        (events + $prior_events / count(*) OVER by_key) / (sum(events) OVER by_key + $prior_events)
            AS share
    FROM baseline_endpoints
    WINDOW by_key AS (PARTITION BY key_id)
),

mixes AS (
    SELECT v.key_id, v.day, v.prefix, v.endpoint, v.events, o.share AS own_share, o.endpoints,
        sum(v.events) OVER visit AS visit_events, v.events / sum(v.events) OVER visit AS share
    FROM visit_endpoints AS v
    JOIN own AS o USING (key_id, endpoint)
    WHERE o.endpoints > 1
    WINDOW visit AS (PARTITION BY v.key_id, v.day, v.prefix)
),

scored AS (
    SELECT key_id, day, prefix,
        arg_max({e: endpoint, own: own_share, actual: share},
            (share - own_share, endpoint)) AS most,
        least(any_value(visit_events), $most_events_counted)
            * sum(exact(share * -log2(own_share * endpoints)))::DOUBLE AS bits
    FROM mixes
    GROUP BY ALL
)

SELECT
    key_id, day, prefix, greatest(bits, -$most_familiar_bits) AS bits,
    format('{:.0f} % of its requests are {}', 100 * most.own, most.e) AS typical,
    format('{:.0f} %', 100 * most.actual) AS actual,
    CASE WHEN bits > 0 THEN 'unusual mix of its own endpoints'
        ELSE 'usual mix of its endpoints' END AS explanation
FROM scored
