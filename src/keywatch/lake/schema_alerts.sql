-- Alerts and the outbox; since format 3.

-- grain: alert_id, change; the newest change of an alert_id is in force
CREATE TABLE lake.alerts (
    alert_id     VARCHAR,
    change       INTEGER,   -- 1 when it was opened
    kind         VARCHAR,   -- key, campaign, migration
    key_ids      VARCHAR[],
    action       VARCHAR,
    bits         DOUBLE,
    window_start TIMESTAMP, -- of the review that said so last
    window_end   TIMESTAMP,
    state        VARCHAR,   -- open, acknowledged (a theft, says an analyst), closed
    document     JSON,      -- the case of the JSON contract, or the group
    members      JSON,      -- of each key: its action and bits, and how it ended
    opened_at    TIMESTAMP,
    changed_at   TIMESTAMP,
    why          VARCHAR,
    is_late      BOOLEAN,   -- it came of log lines that were late; null before format 5
    -- the order of all changes, whatever the clock says; null before format 5
    sequence     BIGINT
);

-- grain: delivery_id; a message to a channel, and the idempotency key that the receiver sees
CREATE TABLE lake.deliveries (
    delivery_id VARCHAR,
    alert_id    VARCHAR, -- null: a summary, a report, upkeep or a heartbeat
    change      INTEGER, -- of the alert
    channel     VARCHAR,
    -- trigger, update, acknowledge, resolve, summary, report, upkeep, heartbeat
    kind        VARCHAR,
    severity    VARCHAR,
    rank        DOUBLE,  -- the larger, the sooner it is sent
    held_back   BOOLEAN, -- quiet hours hold it back
    message     JSON,
    created_at  TIMESTAMP
);

-- grain: delivery_id, sequence; what became of a message; the one of a delivery_id with the highest
-- sequence is in force
CREATE TABLE lake.delivery_outcomes (
    delivery_id VARCHAR,
    recorded_at TIMESTAMP,
    outcome     VARCHAR,   -- sent, unanswered, failed, dead, held, summarised, superseded
    tries       INTEGER,   -- so far
    error       VARCHAR,
    -- what the receiver calls it; with failed and dead: a part of the recipients has it
    remote      VARCHAR,
    next_due_at TIMESTAMP, -- null: never again
    sequence    BIGINT,    -- the order, whatever the clock says; null before format 5
    summary_id  VARCHAR,   -- of what was summarised: the delivery_id of the summary
    recipients  JSON       -- of a mail that not all have: each one's answer so far
);

-- grain: alert_id, sequence; what people noted about an alert; the last assignment is in force
CREATE TABLE lake.alert_notes (
    alert_id VARCHAR,
    kind     VARCHAR,   -- assigned, comment
    text     VARCHAR,   -- to whom, empty: to nobody; the comment
    noted_by VARCHAR,
    noted_at TIMESTAMP,
    sequence BIGINT     -- the order of all notes, whatever the clock says
);
