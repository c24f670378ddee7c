-- grain: one page of pages (n, text) that may hold a suspect text (`redacted.sql`); in order of n
-- A page is texts with a newline between them. A pattern that matches in one of them matches in the
-- page too: with (?m) each begins and ends where its text does, and a newline is no part of a word.
-- Parameters: $token, $bare and $place, as in `redacted.sql`.
SELECT n
FROM pages
WHERE CASE
    WHEN contains(text, '\') OR contains(text, '%') THEN true
    WHEN regexp_matches(text, '(?m)' || $token) THEN true
    WHEN regexp_matches(text, '(?m)' || $bare) THEN true
    ELSE regexp_matches(text, '(?m)' || $place) END
ORDER BY n
