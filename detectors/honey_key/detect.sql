-- grain: visit; reads visits, keys
-- Nobody has a reason to use it: accepted or refused, whoever does has looked where it was planted.
SELECT
    v.key_id, v.day, v.prefix, $honey_bits AS bits,
    'never used: it was planted to be found' AS typical,
    format('{} from {} ({}), {} accepted', counted(v.events, 'request'), v.prefix,
        v.place, v.succeeded)
        AS actual,
    'a planted key is used: whoever does has been where it was planted' AS explanation
FROM visits AS v
JOIN keys AS k USING (key_id)
WHERE k.honey
