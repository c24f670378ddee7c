-- grain: visit; reads visits, visit_agents, key_history, baseline_agents, everybody,
-- everybody_in_all
-- A new product is as surprising as the key's own past makes it; a new major version of a known
-- product hardly. Less than 0 bits: by how much more probable its usual client is for this key than
-- for keys at large, as far as thieves do not have the owner's client.
WITH at_large AS (
    SELECT e.value AS agent, e.keys / i.keys AS share
    FROM everybody AS e
    JOIN everybody_in_all AS i USING (kind)
    WHERE kind = 'agent'
),

scored AS (
    SELECT
        v.key_id, v.day, v.prefix, v.agent, h.active_days, h.products, h.usual_agent,
        a.days IS NOT NULL AS agent_known,
        q.product IS NOT NULL AS product_known,
        CASE
            WHEN agent_known THEN -least($most_familiar_bits,
                greatest(0, log2(a.days / h.active_days / e.share)))
            WHEN product_known THEN $new_version_bits
            ELSE bits(predictive(h.agent_new_days, h.active_days - 1, $new_product_prior,
                $prior_strength_days))
        END AS bits
    FROM visit_agents AS v
    -- A service that calls for the key is no client of it.
    SEMI JOIN (FROM visits WHERE class <> 'service') USING (key_id, day, prefix)
    JOIN key_history AS h USING (key_id)
    LEFT JOIN baseline_agents AS a ON a.key_id = v.key_id AND a.agent = v.agent
    LEFT JOIN (SELECT DISTINCT key_id, product FROM baseline_agents) AS q
        ON q.key_id = v.key_id AND q.product = v.product
    LEFT JOIN at_large AS e ON e.agent = v.agent
    WHERE h.active_days > 0
)

SELECT
    key_id, day, prefix, bits,
    format('{} over {}, mostly {}', counted(products, 'client'), counted(active_days, 'day'),
        usual_agent) AS typical,
    agent AS actual,
    CASE WHEN agent_known THEN 'client this key has used before'
        WHEN product_known THEN 'new version of a client this key uses'
        ELSE 'client never used by this key before' END AS explanation
FROM scored
QUALIFY row_number() OVER (PARTITION BY key_id, day, prefix ORDER BY bits DESC, agent) = 1
