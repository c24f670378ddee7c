-- grain: one line; reads fields (a source's query). Nothing in full leaves this query: text is
-- redacted before it is sorted, stored or spilled, and only then cut. Percent signs may be followed by
-- anything: what is no UTF-8 is decoded by `unquoted`, which is slower.
-- Parameters: $suspect (either of) $full_key, $parameter.
-- A plain substring search stands before each regular expression, in a CASE because DuckDB
-- evaluates both sides of an AND: most lines stop there.
WITH checked AS (
    SELECT
        *,
        CASE
            WHEN CASE WHEN contains(path, '%')
                THEN regexp_matches(coalesce(TRY(url_decode(url_decode(path))), unquoted(path)), $suspect) END
                THEN true
            WHEN CASE WHEN contains(path, '=') THEN regexp_matches(path, $parameter) END THEN true
            WHEN CASE WHEN contains(path, 'ply') THEN regexp_matches(path, $full_key) END THEN true
            WHEN CASE WHEN contains(user_agent, 'ply') OR contains(user_agent, '=')
                    OR contains(user_agent, '%')
                THEN regexp_matches(coalesce(TRY(url_decode(url_decode(user_agent))), unquoted(user_agent)),
                    $suspect) END THEN true
            -- What is to be cut goes the long way too.
            WHEN strlen(path) > 2000 OR strlen(user_agent) > 500 OR strlen(key_id) > 200
                OR strlen(request_id) > 200 OR strlen(endpoint) > 200 OR strlen(object) > 300
                THEN true
            -- Nothing of these kinds is in an ordinary id or address.
            ELSE coalesce(contains(key_id, 'ply') OR contains(key_id, '%'), false)
                OR coalesce(contains(request_id, 'ply') OR contains(request_id, '%'), false)
                OR coalesce(contains(address, 'ply') OR contains(address, '%'), false)
                OR coalesce(contains(endpoint, 'ply') OR contains(endpoint, '%'), false)
                OR coalesce(contains(object, 'ply') OR contains(object, '%'), false)
        END AS suspect
    FROM fields
),

redacted AS (
    SELECT
        file_id, line, reason,
        ts::DATE AS day, ts,
        CASE WHEN suspect THEN left(redact(key_id), 200) ELSE key_id END AS key_id,
        -- An AWS access key id is its own display form; a masked one stays; the rest is secret.
        CASE
            -- Too short on either side of the mask to hide a whole key.
            WHEN strpos("key", '…') BETWEEN 2 AND 25
                AND length("key") - strpos("key", '…') <= 12 THEN "key"
            WHEN "key" = key_id AND NOT suspect THEN left("key", 200)
            ELSE left(mask_key("key"), 200)
        END AS "key",
        CASE WHEN suspect THEN redact(address) ELSE address END AS address,
        method,
        CASE WHEN suspect THEN left(redact(endpoint), 200) ELSE endpoint END AS endpoint,
        CASE WHEN suspect THEN left(redact(object), 300) ELSE object END AS object,
        CASE WHEN suspect THEN left(redact(path), 2000) ELSE path END AS path,
        status,
        CASE WHEN suspect THEN left(redact(user_agent), 500) ELSE user_agent END AS user_agent,
        response_bytes, duration_ms,
        CASE WHEN suspect THEN left(redact(request_id), 200) ELSE request_id END AS request_id,
        coalesce(CASE WHEN suspect THEN regexp_matches(unquoted(concat_ws(' ', key_id, address, endpoint,
            object, path, user_agent, request_id)), $full_key) END, false) AS exposed
    FROM checked
)

SELECT
    * EXCLUDE (request_id),
    method || ' ' || path AS call,
    -- With ts and key_id the identity of a request; where the log has none, the whole row's digest.
    CASE WHEN request_id <> '' THEN request_id
        ELSE '#' || md5(concat_ws(chr(31), clean_address(address), method, endpoint, path, object, status,
            user_agent, response_bytes, duration_ms))
    END AS request_id
FROM redacted
