-- grain: key; reads visit_rates
SELECT
    key_id, NULL AS day, NULL AS prefix, $unlimited_bits AS bits,
    format('{} of {} a minute at most, says the API',
        counted(any_value(requests_per_minute), 'request'), scope)
        AS typical,
    format('{} let in within a minute on {}', max(peak_succeeded),
        arg_max(day, (peak_succeeded, day)))
        AS actual,
    'the rate limit does not hold this key: have the vendor turn it on' AS explanation
FROM visit_rates
WHERE peak_succeeded > requests_per_minute
GROUP BY key_id, scope
