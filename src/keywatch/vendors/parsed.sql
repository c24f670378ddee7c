-- grain: one line; reads fields (a source's query). Nothing in full leaves this query: text is
-- redacted before it is sorted, stored or spilled, and only then cut.
-- Parameters: $token, $bare and $place, the patterns of data/secrets.toml and of the vendors' keys.
-- Only suspects go through Python, where encoded text is decoded; what is still encoded after one
-- decoding, or is no UTF-8 then, is suspect.
WITH texts AS (
    SELECT *, CASE WHEN contains(texts, '%') THEN TRY(url_decode(texts)) END AS decoded
    FROM (
        SELECT *,
            concat_ws(chr(10), path, user_agent, key_id, principal, request_id, address, endpoint,
                object) AS texts
        FROM (
            -- Blanks around an id make no other key.
            SELECT * REPLACE (nullif(trim(key_id, E' \t\r\n'), '') AS key_id) FROM fields
        )
    )
),

-- As logged and decoded in one text: each time that a pattern is named it is compiled, 12 ms.
read_twice AS (SELECT *, concat_ws(chr(10), texts, decoded) AS readings FROM texts),

checked AS (
    SELECT
        * EXCLUDE (texts, decoded, readings),
        -- A CASE, because DuckDB evaluates both sides of an OR.
        CASE
            WHEN contains(texts, '\') THEN true
            WHEN CASE
                WHEN contains(texts, '%')
                    THEN coalesce(contains(decoded, '%') OR contains(decoded, '\'), true) END
                THEN true
            WHEN regexp_matches(readings, $token) THEN true
            WHEN regexp_matches(readings, $bare) THEN true
            WHEN regexp_matches(readings, $place) THEN true
            -- What is to be cut goes the long way too.
            WHEN strlen(texts) > 200 THEN coalesce(strlen(path) > 2000, false)
                OR coalesce(strlen(user_agent) > 500, false)
                OR coalesce(strlen(key_id) > 200, false)
                OR coalesce(strlen(principal) > 200, false)
                OR coalesce(strlen(request_id) > 200, false)
                OR coalesce(strlen(endpoint) > 200, false)
                OR coalesce(strlen(object) > 300, false)
            ELSE false
        END AS suspect
    FROM read_twice
),

redacted AS (
    SELECT
        nth, file_id, line, reason,
        ts::DATE AS day, ts,
        CASE WHEN suspect THEN left(redact(key_id), 200) ELSE key_id END AS key_id,
        -- A key's id may be its own display form; a masked one stays; the rest is secret.
        CASE
            -- Too short on either side of the mask to hide a whole key.
            WHEN strpos("key", '…') BETWEEN 2 AND 25
                AND length("key") - strpos("key", '…') <= 12 THEN "key"
            WHEN "key" = key_id AND NOT suspect THEN left("key", 200)
            ELSE left(mask_key("key"), 200)
        END AS "key",
        -- Null where it is the key itself.
        nullif(CASE WHEN suspect THEN left(redact(principal), 200) ELSE principal END,
            CASE WHEN suspect THEN left(redact(key_id), 200) ELSE key_id END) AS principal,
        CASE WHEN suspect THEN redact(address) ELSE address END AS address,
        method,
        CASE WHEN suspect THEN left(redact(endpoint), 200) ELSE endpoint END AS endpoint,
        CASE WHEN suspect THEN left(redact(object), 300) ELSE object END AS object,
        CASE WHEN suspect THEN left(redact(path), 2000) ELSE path END AS path,
        status, outcome,
        CASE WHEN suspect THEN left(redact(user_agent), 500) ELSE user_agent END AS user_agent,
        response_bytes, duration_ms,
        CASE WHEN suspect THEN left(redact(request_id), 200) ELSE request_id END AS request_id,
        coalesce(CASE WHEN suspect THEN exposes(concat_ws(chr(10), key_id, principal, address,
            endpoint,
            object, user_agent, request_id, path)) <> '' END, false)
            -- What another lake found in them, which masked it.
            OR coalesce(exposed, false) AS exposed,
        -- Stored only where it is the name of a log format.
        logged_as
    FROM checked
)

SELECT
    * EXCLUDE (request_id),
    method || ' ' || path AS call,
    -- With ts and key_id the identity of a request; where the log has none, the whole row's digest.
    CASE WHEN request_id <> '' THEN request_id
        ELSE '#' || md5(concat_ws(chr(31), clean_address(address), method, endpoint, path,
            object, status, outcome, user_agent, response_bytes, duration_ms))
    END AS request_id
FROM redacted
