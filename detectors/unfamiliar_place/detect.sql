-- grain: visit; reads visits, stays, first_networks, moved_networks, settled_prefixes, past_places,
-- places, keys
-- The vendor's rule, for lakes with too few ordinary weeks to say how rare a score is. Steady: a
-- key that was seen on so many days, from few networks, and all but most_newcomers of them from its
-- beginning on, unless it moved there or a verdict says that it is the owner's. Unfamiliar: a Tor
-- exit; or, while a usual place is used as ever, a network and a country that neither the key nor
-- another key of its owner came from, or a hosting, VPN or proxy network that none of them came
-- from, or an address that no database knows. Where another key of the owner moved to the same
-- network the owner has moved.
WITH houses AS (
    SELECT key_id, coalesce('owner ' || owner, 'key ' || key_id) AS house FROM keys
),

-- Where a key or another key of its owner came from.
seen AS (
    SELECT DISTINCT h.house, p.network, p.country, p.class
    FROM (SELECT DISTINCT key_id, place_id FROM past_places WHERE NOT is_flagged) AS l
    JOIN places AS p USING (place_id)
    JOIN houses AS h USING (key_id)
),

moves AS (
    SELECT h.house, s.key_id, s.network
    FROM stays AS s
    JOIN houses AS h USING (key_id)
    WHERE s.silence_bits >= $most_silence_bits
),

roaming AS (
    SELECT l.key_id
    FROM past_places AS l
    JOIN places AS p USING (place_id)
    JOIN first_networks AS f ON f.key_id = l.key_id AND f.network = p.network
    ANTI JOIN moved_networks AS m ON m.key_id = f.key_id AND m.network = f.network
    ANTI JOIN settled_prefixes AS b ON b.key_id = l.ancestor AND b.prefix = p.prefix
    WHERE f.is_late AND NOT l.is_flagged
    GROUP BY l.key_id
    HAVING count(DISTINCT p.network) > $most_newcomers
),

steady AS (
    SELECT key_id, active_days, usual_place, networks AS usual_networks
    FROM key_history
    ANTI JOIN roaming USING (key_id)
    WHERE active_days >= $steady_days AND networks <= $most_networks
),

strangers AS (
    SELECT v.*, t.active_days, t.usual_place, t.usual_networks, s.silence_bits,
        s.network IS NOT NULL AS is_new, coalesce(s.owner_goes_on, false) AS owner_goes_on,
        v.country <> '-' AND NOT EXISTS (
            FROM seen AS n WHERE n.house = h.house AND n.country = v.country) AS is_abroad,
        NOT EXISTS (
            FROM seen AS n WHERE n.house = h.house AND n.network = v.network) AS is_foreign,
        NOT EXISTS (
            FROM seen AS n WHERE n.house = h.house AND n.class = v.class) AS is_of_new_class,
        EXISTS (
            FROM moves AS m
            WHERE m.house = h.house AND m.network = v.network AND m.key_id <> v.key_id) AS is_move
    FROM visits AS v
    JOIN steady AS t USING (key_id)
    JOIN houses AS h USING (key_id)
    LEFT JOIN stays AS s USING (key_id, network)
)

SELECT
    key_id, day, prefix, $rule_bits AS bits,
    CASE WHEN usual_networks = 1
        THEN format('only from {} over {}', usual_place, counted(active_days, 'day'))
        ELSE format('only from {} over {}, mostly {}', counted(usual_networks, 'network'),
            counted(active_days, 'day'), usual_place) END AS typical,
    format('{} from {} ({}){}', counted(events, 'request'), prefix, place,
        CASE WHEN owner_goes_on THEN ', while the usual place remains in use'
            ELSE '' END) AS actual,
    CASE WHEN class = 'tor' THEN 'used from a Tor exit'
        WHEN class = 'unknown'
            THEN 'used from an address no database can locate while its owner is active elsewhere'
        WHEN is_abroad
            THEN 'used from an unfamiliar network and country while its owner is active elsewhere'
        ELSE format('used from an unfamiliar {} network while its owner is active elsewhere',
            CASE class WHEN 'vpn' THEN 'VPN' ELSE class END) END AS explanation
FROM strangers
WHERE class = 'tor' AND is_of_new_class
    OR is_new AND is_foreign AND owner_goes_on AND NOT is_move AND silence_bits < $most_silence_bits
        AND (
            is_abroad OR class IN ('hosting', 'vpn', 'proxy')
            OR class = 'unknown' AND is_of_new_class
        )
