-- grain: key_id, window_start, window_end; the verdict in force. A verdict is put on top of those
-- before it and an undo takes the top one off; `height` is how many are left, and the top one is
-- the last that was put at the final height.
CREATE OR REPLACE TEMP MACRO verdicts_in_force() AS TABLE
SELECT * EXCLUDE (height, final_height)
FROM (
    SELECT *, last_value(height) OVER (
        PARTITION BY key_id, window_start, window_end ORDER BY given_at, verdict_id
        ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) AS final_height
    FROM (
        SELECT *, sum(CASE verdict WHEN 'undo' THEN -1 ELSE 1 END) OVER (
            PARTITION BY key_id, window_start, window_end ORDER BY given_at, verdict_id) AS height
        FROM lake.verdicts
    )
)
WHERE verdict <> 'undo' AND height = final_height
QUALIFY row_number() OVER (
    PARTITION BY key_id, window_start, window_end ORDER BY given_at DESC, verdict_id DESC) = 1;

-- Whether a verdict on these origins (null: on all of its case) is about a visit: it names the
-- prefix, or the network, less the addresses in it that anybody can rent or hide behind.
CREATE OR REPLACE TEMP MACRO is_about(origins, prefix, network, class) AS
    coalesce(
        list_contains(origins, prefix)
        OR list_contains(origins, network)
            AND class NOT IN ('hosting', 'vpn', 'proxy', 'tor', 'relay'),
        true
    );
