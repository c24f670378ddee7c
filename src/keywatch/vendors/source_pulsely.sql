-- grain: one line of Pulsely's audit log; reads raw (file_id, line, text)
-- No filter: DuckDB would put it below `lines`, and read the JSON twice.
WITH lines AS (
    SELECT file_id, line, text, TRY(json_transform(text, '{
        "timestamp": "VARCHAR", "request_id": "VARCHAR", "key_id": "VARCHAR", "key": "VARCHAR",
        "ip": "VARCHAR", "method": "VARCHAR", "endpoint": "VARCHAR", "status": "VARCHAR",
        "user_agent": "VARCHAR", "response_bytes": "VARCHAR", "duration_ms": "VARCHAR"
    }')) AS logged
    FROM raw
),

typed AS (
    SELECT
        file_id, line, logged, utc(logged."timestamp") AS ts,
        try_cast(logged.status AS SMALLINT) AS status
    FROM lines
)

SELECT
    file_id, line,
    CASE
        -- Most lines stop here.
        WHEN year(ts) BETWEEN 2000 AND 2099 AND logged.key_id <> '' AND logged.ip <> ''
            AND logged.method IN ('GET', 'POST', 'PUT', 'PATCH', 'DELETE') AND logged.endpoint <> ''
            THEN NULL
        WHEN logged IS NULL THEN 'not valid JSON'
        WHEN logged."timestamp" IS NULL THEN 'timestamp is missing'
        WHEN ts IS NULL THEN 'timestamp is not RFC 3339 with an offset (2026-09-30T00:00:04Z)'
        WHEN year(ts) NOT BETWEEN 2000 AND 2099 THEN 'timestamp is not between 2000 and 2099'
        WHEN coalesce(logged.ip, '') = '' THEN 'ip is missing'
        WHEN coalesce(logged.method, '') = '' THEN 'method is missing'
        WHEN coalesce(logged.endpoint, '') = '' THEN 'endpoint is missing'
    END AS reason,
    -- Other years are no time at all: Python has none before 1 and after 9999.
    CASE WHEN year(ts) BETWEEN 2000 AND 2099 THEN ts END AS ts,
    nullif(logged.key_id, '') AS key_id,
    logged."key" AS "key",
    logged.ip AS address,
    -- Whoever holds a key may send any method; OpenTelemetry has the same word for the rest.
    CASE WHEN regexp_full_match(logged.method, '[A-Za-z-]{1,20}') THEN upper(logged.method)
        ELSE '_OTHER' END AS method,
    NULL::VARCHAR AS endpoint,
    NULL::VARCHAR AS object,
    logged.endpoint AS path,
    -- 0, 000 and - stand for a client that went away: a request without an answer.
    CASE WHEN status BETWEEN 100 AND 599 THEN status END AS status,
    logged.user_agent AS user_agent,
    try_cast(logged.response_bytes AS BIGINT) AS response_bytes,
    try_cast(logged.duration_ms AS DOUBLE) AS duration_ms,
    logged.request_id AS request_id
FROM typed
