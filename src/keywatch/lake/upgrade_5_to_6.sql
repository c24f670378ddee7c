-- Format 6: a lake knows the secret that its keys are hashed with, by a fingerprint.
ALTER TABLE lake.identity ADD COLUMN secret_fingerprint VARCHAR;
UPDATE lake.identity SET secret_fingerprint = getvariable('secret_fingerprint')::VARCHAR;
