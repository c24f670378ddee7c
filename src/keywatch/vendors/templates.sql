-- grain: one call of calls (n, method, path); its endpoint by the general rule, in order
-- of n
-- A chunk's calls are few beside its requests: the regular expressions run here, on each once.
WITH targets AS (
    SELECT n, method, regexp_replace(path, '(?s)[?#].*', '') AS target
    FROM calls
),

parts AS (
    SELECT
        n, method,
        -- Slashes are doubled so that neighbouring ids don't share one.
        replace(rtrim(CASE WHEN regexp_matches(target, '//|%|;|/\.') THEN plain_path(target)
            ELSE target END, '/'), '/', '//') || '/' AS segments
    FROM targets
),

templated AS (
    SELECT *, regexp_replace(segments, '/(?:' || id_pattern() || ')/', '/{id}/', 'g') AS template
    FROM parts
)

SELECT
    method || ' ' || CASE WHEN template IN ('', '/') THEN '/'
        ELSE left(rtrim(replace(template, '//', '/'), '/'), 150) END AS endpoint,
    CASE
        WHEN template = segments THEN NULL
        -- One id: what stands in its place. The template is shorter or longer by the id only.
        WHEN length(template) - length(replace(template, '{id}', '')) = 4
            THEN left(substr(segments, strpos(template, '{id}'),
                length(segments) - length(template) + 4), 300)
        ELSE left(trim(replace(array_to_string(
            regexp_extract_all(segments, '/(?:' || id_pattern() || ')/'), ''), '//',
                '/'), '/'), 300)
    END AS object
FROM templated
ORDER BY n
