-- The log and its roll-ups of the span. Variables: span_start, span_end (days, half open).
-- Views: a large lake is not copied; of a small one `detectors.prepare_span` keeps the rows, and
-- of a few keys `detectors.prepare_keys` those of the keys.

-- grain: key_id; left out of all tables, or guesses would outnumber the keys
CREATE OR REPLACE TEMP TABLE unknown_credentials AS
FROM unknown_credentials_until(getvariable('span_end'));

-- grain: key_id, day, address, endpoint, status_class, agent, in parts that add up; of all days
-- until the span's end
CREATE OR REPLACE TEMP VIEW known_activity AS
FROM lake.activity
ANTI JOIN unknown_credentials USING (key_id)
WHERE day < getvariable('span_end');

-- grain: key_id, day, address, load_id, in parts that add up; of all days until the span's end. Of
-- keys beside a part (`detectors.prepare_part`) this alone is read.
CREATE OR REPLACE TEMP VIEW known_addresses AS
SELECT key_id, day, address, load_id FROM known_activity;

-- grain: key_id, day, address, endpoint, status_class, agent, in parts that add up
CREATE OR REPLACE TEMP VIEW span_activity AS
FROM known_activity WHERE day >= getvariable('span_start');

-- grain: ts, key_id, request_id
CREATE OR REPLACE TEMP VIEW span_events AS
FROM lake.events AS e
ANTI JOIN unknown_credentials AS u ON u.key_id = coalesce(e.principal, e.key_id)
WHERE day >= getvariable('span_start') AND day < getvariable('span_end');

-- grain: key_id, hour, address, in parts that add up
CREATE OR REPLACE TEMP VIEW span_hours AS
FROM lake.activity_hours
ANTI JOIN unknown_credentials USING (key_id)
WHERE hour >= getvariable('span_start') AND hour < getvariable('span_end');

-- grain: key_id, day, address, previous, endpoint, in parts that add up
CREATE OR REPLACE TEMP VIEW span_transitions AS
FROM lake.transitions
ANTI JOIN unknown_credentials USING (key_id)
WHERE day >= getvariable('span_start') AND day < getvariable('span_end');
