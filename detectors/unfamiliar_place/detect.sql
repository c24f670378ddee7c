-- grain: visit; reads visits, stays, key_history, past_places, places, keys
-- The vendor's rule, for lakes with too few ordinary weeks to say how rare a score is. Steady: a key that was
-- seen on so many days, and never at a network that it did not come from in its first days. Unfamiliar: a Tor
-- exit; or, while a usual place is used as ever, a network and a country that neither the key nor another key
-- of its owner came from, or a hosting, VPN or proxy network that none of them came from. Where another key of
-- the owner moved to the same network the owner has moved.
WITH seen AS (
    SELECT DISTINCT l.key_id, p.network, p.country
    FROM past_places AS l
    JOIN places AS p USING (place_id)
    WHERE NOT l.is_flagged
),

family AS (
    SELECT k.key_id, o.key_id AS member
    FROM keys AS k
    JOIN keys AS o ON o.key_id = k.key_id OR o.owner = k.owner
),

steady AS (
    SELECT key_id, active_days, usual_place, networks AS usual_networks
    FROM key_history
    WHERE active_days >= $steady_days AND networks <= $most_networks AND seen_networks = networks
        AND newest_network_day < first_day + getvariable('settling_days')
),

strangers AS (
    SELECT v.*, t.active_days, t.usual_place, t.usual_networks, s.silence_bits, s.owner_goes_on,
        v.country <> '-' AND NOT EXISTS (
            FROM family AS f JOIN seen AS n ON n.key_id = f.member
            WHERE f.key_id = v.key_id AND n.country = v.country) AS is_abroad,
        NOT EXISTS (
            FROM family AS f JOIN seen AS n ON n.key_id = f.member
            WHERE f.key_id = v.key_id AND n.network = v.network) AS is_foreign,
        EXISTS (
            FROM family AS f JOIN stays AS m ON m.key_id = f.member
            WHERE f.key_id = v.key_id AND f.member <> v.key_id AND m.network = v.network
                AND m.silence_bits >= $most_silence_bits) AS is_move
    FROM visits AS v
    JOIN stays AS s USING (key_id, network)
    JOIN steady AS t USING (key_id)
    WHERE v.located
)

SELECT
    key_id, day, prefix, $rule_bits AS bits,
    CASE WHEN usual_networks = 1 THEN format('only from {} on {}', usual_place, counted(active_days, 'day'))
        ELSE format('only from {} on {}, mostly {}', counted(usual_networks, 'network'),
            counted(active_days, 'day'), usual_place) END AS typical,
    format('{} from {} ({}){}', counted(events, 'request'), prefix, place,
        CASE WHEN owner_goes_on THEN ', while the usual place is used as ever' ELSE '' END) AS actual,
    CASE WHEN class = 'tor' THEN 'used from a Tor exit'
        WHEN is_abroad THEN 'used from an unfamiliar network and country while its owner goes on elsewhere'
        ELSE format('used from an unfamiliar {} network while its owner goes on elsewhere',
            CASE class WHEN 'vpn' THEN 'VPN' ELSE class END) END AS explanation
FROM strangers
WHERE class = 'tor'
    OR is_foreign AND owner_goes_on AND NOT is_move AND silence_bits < $most_silence_bits
        AND (is_abroad OR class IN ('hosting', 'vpn', 'proxy'))
