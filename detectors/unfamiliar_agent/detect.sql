-- grain: visit; reads visit_agents, key_history, baseline_agents
-- A new product is as surprising as the key's own past makes it; a new major version of a known
-- product hardly.
WITH scored AS (
    SELECT
        v.key_id, v.day, v.prefix, v.agent, h.active_days, h.products, h.usual_agent,
        EXISTS (FROM baseline_agents AS b
            WHERE b.key_id = v.key_id AND b.product = v.product) AS product_known,
        bits(predictive(h.agent_new_days, h.active_days - 1, $new_product_prior,
            $prior_strength_days)) AS product_bits
    FROM visit_agents AS v
    JOIN key_history AS h USING (key_id)
    ANTI JOIN baseline_agents AS a ON a.key_id = v.key_id AND a.agent = v.agent
    WHERE h.active_days > 0
)

SELECT
    key_id, day, prefix,
    CASE WHEN product_known THEN $new_version_bits ELSE product_bits END AS bits,
    format('{} on {}, mostly {}', counted(products, 'client'), counted(active_days, 'day'),
        usual_agent) AS typical,
    agent AS actual,
    CASE WHEN product_known THEN 'another version of a client that this key uses'
        ELSE 'a client that this key never used' END AS explanation
FROM scored
QUALIFY row_number() OVER (PARTITION BY key_id, day, prefix ORDER BY bits DESC, agent) = 1
