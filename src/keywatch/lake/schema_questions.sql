-- What owners of keys are asked, and their answers; since format 8. Both only grow.

-- grain: question_id; what an owner is asked about keys of an alert; the delivery_id of its message
CREATE TABLE lake.questions (
    question_id  VARCHAR,
    alert_id     VARCHAR,
    key_ids      VARCHAR[], -- the owner's in the alert
    owner        VARCHAR,
    channel      VARCHAR,   -- whose credentials it is sent with
    recipient    VARCHAR,   -- a mail address, or a Slack user
    origins      VARCHAR[], -- that it is about: networks, and prefixes of those that anybody rents
    window_start TIMESTAMP,
    window_end   TIMESTAMP,
    action       VARCHAR,   -- the alert's, when it was asked
    asked_at     TIMESTAMP,
    within_s     BIGINT     -- seconds to answer in, from when it is sent
);

-- grain: question_id, answer; one by the owner is in force, else the channels were notified
CREATE TABLE lake.answers (
    question_id VARCHAR,
    answer      VARCHAR,    -- yes, no, not_mine; unanswered: the time is over, or it was not sent
    until       DATE,       -- yes, until this day; null: this once
    answered_at TIMESTAMP,
    way         VARCHAR,    -- link, Slack, command; of unanswered: why
    by_whom     VARCHAR,    -- the person, where the way says it
    note        VARCHAR     -- what came of it
);
