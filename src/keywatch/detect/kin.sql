-- grain: key_id; some keys, those of their owners, the predecessors of all of these by the
-- inventory, the keys of their owners, and so on. A guessed predecessor is its owner's.
WITH RECURSIVE inventory AS (
    FROM inventory_in_force()
),

links AS (
    SELECT 'key' AS kind, key_id AS name, 'owner' AS to_kind, owner AS to_name FROM inventory
    UNION ALL
    SELECT 'owner', owner, 'key', key_id FROM inventory
    UNION ALL
    SELECT 'key', key_id, 'key', replaces FROM inventory
),

kin AS (
    SELECT 'key' AS kind, unnest($key_ids::VARCHAR[]) AS name
    UNION
    SELECT l.to_kind, l.to_name
    FROM kin AS k
    JOIN links AS l USING (kind, name)
    WHERE l.to_name IS NOT NULL
)

SELECT name AS key_id FROM kin WHERE kind = 'key' ORDER BY key_id
