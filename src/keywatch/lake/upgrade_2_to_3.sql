-- Format 2 had an outbox that nothing wrote to; schema_alerts.sql makes the one that is used.
DROP TABLE lake.deliveries;
