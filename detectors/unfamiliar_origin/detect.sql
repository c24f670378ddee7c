-- grain: visit; reads visits, visit_addresses, key_history, baseline_places, baseline_prefixes,
--   baseline_networks, owner_prefixes, keys
-- A new origin is a chain of choices, each as probable as the key's own past makes it: a new address
-- (or one it knows: 0 bits), then a new prefix, network and country. A chain of Beta-binomial
-- predictives, the two-type case of Pitman-Yor back-off (Sanna Passino and Heard 2019). What the
-- key's own prefix or its owner's other keys explain is capped: improbable for the key, but no thief's.
WITH new_addresses AS (
    FROM visit_addresses ANTI JOIN baseline_places USING (key_id, place_id)
),

owned AS (
    SELECT owner, prefix, count(*) AS keys, min(key_id) AS key_id
    FROM owner_prefixes
    WHERE days >= $owner_min_days
    GROUP BY owner, prefix
),

fresh AS (
    SELECT
        v.*, a.ip, h.address_days, h.addresses, h.prefixes, h.networks, h.countries,
        h.active_days, h.usual_place,
        EXISTS (FROM baseline_prefixes AS b
            WHERE b.key_id = v.key_id AND b.prefix = v.prefix) AS prefix_known,
        EXISTS (FROM baseline_networks AS b
            WHERE b.key_id = v.key_id AND b.network = v.network) AS network_known,
        EXISTS (FROM baseline_networks AS b
            WHERE b.key_id = v.key_id AND b.country = v.country) AS country_known,
        coalesce(o.keys > 1 OR o.key_id <> v.key_id, false) AS owner_knows
    FROM new_addresses AS a
    JOIN visits AS v USING (key_id, day, prefix)
    JOIN key_history AS h USING (key_id)
    LEFT JOIN keys AS k USING (key_id)
    LEFT JOIN owned AS o ON o.owner = k.owner AND o.prefix = v.prefix
    WHERE h.active_days > 0
),

chances AS (
    SELECT
        *,
        predictive(addresses - 1, address_days - 1, $new_address_prior, $prior_strength_trials)
            AS p_address,
        predictive(prefixes - 1, addresses - 1, $new_prefix_prior, $prior_strength_trials)
            AS p_prefix,
        predictive(networks - 1, prefixes - 1, $new_network_prior, $prior_strength_trials)
            AS p_network,
        predictive(countries - 1, networks - 1, $new_country_prior, $prior_strength_trials)
            AS p_country
    FROM fresh
),

scored AS (
    SELECT
        *,
        CASE
            WHEN prefix_known THEN least($known_prefix_bits, bits(p_address))
            WHEN owner_knows THEN least($owner_prefix_bits, bits(p_address) + bits(p_prefix))
            -- What no database can place is new as an address, and no more is known of it.
            WHEN network_known OR NOT located THEN bits(p_address) + bits(p_prefix)
            WHEN country_known OR country = '-' THEN bits(p_address) + bits(p_prefix) + bits(p_network)
            ELSE bits(p_address) + bits(p_prefix) + bits(p_network) + bits(p_country)
        END AS bits
    FROM chances
)

SELECT
    key_id, day, prefix, bits,
    format('{} in {} on {}, mostly {}', counted(addresses, 'address', 'es'),
        counted(networks, 'network'), counted(active_days, 'day'), usual_place) AS typical,
    format('{} ({})', ip, place) AS actual,
    CASE
        WHEN prefix_known THEN 'a new address in a prefix that this key uses'
        WHEN owner_knows THEN 'new for this key, but its owner''s other keys come from there'
        WHEN NOT located THEN 'a new address that no database can place'
        WHEN network_known THEN 'a new prefix in a network that this key uses'
        WHEN country_known OR country = '-' THEN 'a network that this key never came from'
        ELSE 'a network and a country that this key never came from'
    END AS explanation
FROM scored
QUALIFY row_number() OVER (PARTITION BY key_id, day, prefix ORDER BY bits DESC, ip) = 1
