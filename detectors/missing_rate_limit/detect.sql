-- grain: key; reads visit_rates
SELECT
    key_id, NULL AS day, NULL AS prefix, $unlimited_bits AS bits,
    format('at most {} a minute with {}, by the API catalogue',
        counted(any_value(requests_per_minute), 'request'), scope)
        AS typical,
    format('{} accepted in one minute on {}', max(peak_succeeded),
        arg_max(day, (peak_succeeded, day)))
        AS actual,
    'rate limit not enforced for this key: have the vendor enable it' AS explanation
FROM visit_rates
WHERE peak_succeeded > requests_per_minute
GROUP BY key_id, scope
