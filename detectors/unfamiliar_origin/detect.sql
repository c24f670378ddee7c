-- grain: visit; reads visits, visit_addresses, key_history, baseline_addresses, baseline_prefixes,
-- keys, everybody, everybody_in_all
-- How much less probable a new origin is for the key than for keys at large (Freeman et al. 2016),
-- by a hierarchy of predictives, a form of Pitman-Yor back-off (Sanna Passino and Heard 2019). An
-- address is new in so many days; its prefix then is known or new in so many addresses, its network
-- in so many prefixes, its country in so many networks. What is new comes from where the owner's
-- other keys are, or by the level above. So a small network that the key knows explains a new
-- prefix, a provider that everybody rents from hardly, and the owner's own office wholly.
WITH owners AS (
    -- grain: owner, level, value; keys = how many of the owner's keys were there for some days
    SELECT owner, level, value, count(DISTINCT key_id) AS keys
    FROM (
        SELECT k.owner, b.key_id, unnest(['address', 'prefix', 'network', 'country']) AS level,
            unnest([b.address, b.prefix, b.network, b.country]) AS value
        FROM baseline_addresses AS b
        JOIN keys AS k USING (key_id)
        WHERE k.owner IS NOT NULL AND b.days >= $owner_min_days
    )
    GROUP BY ALL
),

owners_at_all AS (
    SELECT owner, level, value, count(DISTINCT key_id) AS keys
    FROM (
        SELECT k.owner, b.key_id, unnest(['prefix', 'network', 'country']) AS level,
            unnest([b.prefix, b.network, b.country]) AS value
        FROM baseline_prefixes AS b
        JOIN keys AS k USING (key_id)
        WHERE k.owner IS NOT NULL
    )
    GROUP BY ALL
),

owners_in_all AS (
    SELECT owner, level, sum(keys) AS uses, count(*) AS types FROM owners GROUP BY ALL
),

fresh AS (
    SELECT v.key_id, v.day, v.prefix, v.place, v.located, v.network, v.country, a.address, a.ip,
        k.owner, h.*
    FROM visits AS v
    JOIN visit_addresses AS a USING (key_id, day, prefix)
    JOIN (SELECT * RENAME (key_id AS id) FROM key_history) AS h ON h.id = v.key_id
    LEFT JOIN keys AS k USING (key_id)
    ANTI JOIN baseline_addresses AS b ON b.key_id = v.key_id AND b.address = a.address
    WHERE v.class <> 'service'
),

-- grain: fresh address, level; `new` = how often the key's next value is a new one, of `trials`
levels AS (
    SELECT key_id, owner, address, 'address' AS level, address AS value, prefix AS within,
        novelty(seen_addresses - 1, seen_address_days - 1, $new_address_prior,
            $prior_strength_trials) AS new,
        NULL AS trials
    FROM fresh
    UNION
    SELECT key_id, owner, address, 'prefix', prefix, prefix,
        novelty(seen_prefixes - 1, seen_addresses - 1, $new_prefix_prior, $prior_strength_trials),
        seen_addresses
    FROM fresh
    UNION
    SELECT key_id, owner, address, 'network', network, network,
        novelty(seen_networks - 1, seen_prefixes - 1, $new_network_prior, $prior_strength_trials),
        seen_prefixes
    FROM fresh WHERE located
    UNION
    SELECT key_id, owner, address, 'country', country, country,
        novelty(seen_countries - 1, seen_networks - 1, $new_country_prior, $prior_strength_trials),
        seen_networks
    FROM fresh WHERE country <> '-'
),

-- grain: key, level, value; times = the distinct values of the level below that the key has there
known AS (
    SELECT key_id, 'prefix' AS level, prefix AS value, sum(addresses) AS times
    FROM baseline_prefixes GROUP BY ALL
    UNION ALL
    SELECT key_id, 'network', network, count(DISTINCT prefix) FROM baseline_prefixes GROUP BY ALL
    UNION ALL
    SELECT key_id, 'country', country, count(DISTINCT network) FROM baseline_prefixes GROUP BY ALL
),

-- The ratio of the key's (its owner's) probability to everybody's, by what it has seen there
-- itself.
ratios AS (
    SELECT
        l.*, n.times IS NOT NULL AS is_known, coalesce(o.keys, 0) AS owner_keys,
        -- Of few keys nobody can tell what everybody does.
        -- The owner's own keys are no "everybody": a stranger is as rare at the owner's office as
        -- others are.
        predictive(greatest(coalesce(e.keys, 0) - coalesce(w.keys, 0), 0),
            greatest(coalesce(i.uses, 0) - coalesce(u.uses, 0), 0),
            CASE l.level WHEN 'country' THEN $country_share WHEN 'network' THEN $network_share
                ELSE $prefix_share END, $everybody_strength_keys) AS share,
        coalesce((1 - new) * n.times / l.trials, 0) / share AS own,
        predictive(t.types - 1, t.uses - 1, $new_to_owner_prior, $prior_strength_trials)
            AS new_of_owner,
        (1 - new_of_owner) * coalesce(o.keys, 0) / t.uses / share AS own_owner
    FROM levels AS l
    LEFT JOIN known AS n USING (key_id, level, value)
    -- An address is as common as its prefix.
    LEFT JOIN everybody AS e
        ON e.kind = replace(l.level, 'address', 'prefix') AND e.value = l.within
    LEFT JOIN everybody_in_all AS i ON i.kind = replace(l.level, 'address', 'prefix')
    LEFT JOIN owners_at_all AS w
        ON w.owner = l.owner AND w.level = replace(l.level, 'address', 'prefix')
            AND w.value = l.within
    LEFT JOIN (SELECT owner, level, sum(keys) AS uses FROM owners_at_all GROUP BY ALL) AS u
        ON u.owner = l.owner AND u.level = replace(l.level, 'address', 'prefix')
    LEFT JOIN owners AS o ON o.owner = l.owner AND o.level = l.level AND o.value = l.value
    LEFT JOIN owners_in_all AS t ON t.owner = l.owner AND t.level = l.level
),

fresh_addresses AS (SELECT DISTINCT key_id, address FROM fresh),

-- What no database can place says nothing at its level: ratio 1.
countries AS (
    SELECT f.key_id, f.address,
        own_owner + new_of_owner AS owner_ratio,
        coalesce(own + new * (coalesce(owner_ratio, 1) + 1) / 2, 1) AS ratio,
        coalesce(is_known, false) AS is_known
    FROM fresh_addresses AS f
    LEFT JOIN ratios AS r ON r.key_id = f.key_id AND r.address = f.address AND r.level = 'country'
),

networks AS (
    SELECT f.key_id, f.address,
        coalesce(own_owner + new_of_owner * coalesce(f.owner_ratio, 1),
            f.owner_ratio) AS owner_ratio,
        coalesce(own + new
            * (coalesce(own_owner + new_of_owner * coalesce(f.owner_ratio, 1), f.ratio) + f.ratio)
                / 2, 1) AS ratio,
        coalesce(r.is_known, false) AS is_known, f.is_known AS country_known
    FROM countries AS f
    LEFT JOIN ratios AS r ON r.key_id = f.key_id AND r.address = f.address AND r.level = 'network'
),

prefixes AS (
    SELECT f.key_id, f.address,
        coalesce(own_owner + new_of_owner * coalesce(f.owner_ratio, 1),
            f.owner_ratio) AS owner_ratio,
        own + new
            * (coalesce(own_owner + new_of_owner * coalesce(f.owner_ratio, 1), f.ratio) + f.ratio)
                / 2 AS ratio,
        r.is_known AS prefix_known, f.is_known AS network_known, f.country_known,
        r.owner_keys > 0 AS owner_knows
    FROM networks AS f
    JOIN ratios AS r ON r.key_id = f.key_id AND r.address = f.address AND r.level = 'prefix'
),

addresses AS (
    SELECT f.*,
        new * (coalesce(own_owner + new_of_owner * coalesce(f.owner_ratio, 1), f.ratio) + f.ratio)
            / 2 AS address_ratio
    FROM prefixes AS f
    JOIN ratios AS r ON r.key_id = f.key_id AND r.address = f.address AND r.level = 'address'
),

strangest AS (
    SELECT
        f.key_id, f.day, f.prefix, -log2(a.address_ratio) AS bits,
        format('{} ({})', ip, place) AS actual,
        CASE
            WHEN active_days = 0 AND owner_knows THEN 'the owner''s other keys are used from there'
            WHEN active_days = 0
                THEN 'key with no history used where the owner''s other keys are not'
            WHEN prefix_known THEN 'new address in a prefix this key uses'
            WHEN owner_knows THEN 'new to this key, but the owner''s other keys are used from there'
            WHEN NOT located THEN 'new address that no database can locate'
            WHEN network_known THEN 'new prefix in a network this key uses'
            WHEN country_known OR country = '-' THEN 'network never used by this key before'
            ELSE 'network and country never used by this key before'
        END AS explanation
    FROM fresh AS f
    JOIN addresses AS a USING (key_id, address)
    QUALIFY row_number() OVER (PARTITION BY f.key_id, f.day, f.prefix ORDER BY bits DESC, ip) = 1
)

-- A thief at an address that the key has always used is one from within.
SELECT
    v.key_id, v.day, v.prefix,
    greatest(coalesce(s.bits, -$most_familiar_bits), -$most_familiar_bits) AS bits,
    CASE WHEN h.active_days = 0 THEN 'no history'
        ELSE format('{} in {} over {}, mostly {}', counted(h.addresses, 'address', 'es'),
            counted(h.networks, 'network'), counted(h.active_days, 'day'), h.usual_place)
        END AS typical,
    coalesce(s.actual, format('{} ({})', v.prefix, v.place)) AS actual,
    coalesce(s.explanation, 'addresses this key has used before') AS explanation
FROM visits AS v
JOIN key_history AS h USING (key_id)
LEFT JOIN strangest AS s USING (key_id, day, prefix)
-- A service that calls for the key is no place that it is used at.
WHERE v.class <> 'service'
