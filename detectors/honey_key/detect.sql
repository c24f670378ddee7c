-- grain: visit; reads visits, keys
-- Nobody has a reason to use it: accepted or refused, whoever does has looked where it was planted.
SELECT
    v.key_id, v.day, v.prefix, $honey_bits AS bits,
    'never used: a honey key' AS typical,
    format('{} from {} ({}), {} accepted', counted(v.events, 'request'), v.prefix,
        v.place, v.succeeded)
        AS actual,
    'honey key used: someone has had access to where it was planted' AS explanation
FROM visits AS v
JOIN keys AS k USING (key_id)
WHERE k.honey
