-- grain: one text of texts (n, text, most, apart) that is not as it is logged, or too long; the
-- others are stored as they are; in order of n. Redacted first, and only then cut to `most`
-- characters, of which the last 17 are '#' and a keyed hash of the whole where texts are kept
-- `apart`.
-- Parameters: $token, $bare and $place, the patterns of data/secrets.toml and of the vendors' keys.
-- Only suspects go through Python, where encoded text is decoded; what is still encoded after one
-- decoding, or is no UTF-8 then, is suspect.
WITH decoded AS (
    SELECT *, CASE WHEN contains(text, '%') THEN TRY(url_decode(text)) END AS decoded FROM texts
),

-- As logged and decoded in one text: each time that a pattern is named it is compiled, 12 ms.
read_twice AS (SELECT *, concat_ws(chr(10), text, decoded) AS readings FROM decoded),

checked AS (
    SELECT n, text, most, apart,
        -- A CASE, because DuckDB evaluates both sides of an OR.
        CASE
            WHEN contains(text, '\') THEN true
            WHEN CASE
                WHEN contains(text, '%')
                    THEN coalesce(contains(decoded, '%') OR contains(decoded, '\'), true) END
                THEN true
            WHEN regexp_matches(readings, $token) THEN true
            WHEN regexp_matches(readings, $bare) THEN true
            WHEN regexp_matches(readings, $place) THEN true
            ELSE strlen(text) > most
        END AS suspect
    FROM read_twice
),

redacted AS (
    SELECT n, most, apart, text AS logged, redact(text) AS text FROM checked WHERE suspect
)

SELECT n,
    CASE
        WHEN apart AND length(text) > most THEN left(text, most - 17) || '#' || key_hash(logged)
        ELSE left(text, most)
    END AS text,
    exposes(logged) <> '' AS exposed
FROM redacted
ORDER BY n
