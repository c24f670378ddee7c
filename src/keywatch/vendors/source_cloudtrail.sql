-- grain: one CloudTrail record; reads raw (file_id, line, text)
-- Field reference: CloudTrail record contents, version 1.08 and later.
SELECT
    file_id, line,
    CASE
        WHEN fields IS NULL THEN 'not valid JSON'
        WHEN fields.eventTime IS NULL THEN 'eventTime is missing'
        WHEN ts IS NULL THEN 'eventTime is not RFC 3339 with an offset (2023-07-10T11:42:18Z)'
        WHEN year(ts) NOT BETWEEN 2000 AND 2099 THEN 'eventTime is not between 2000 and 2099'
        WHEN fields.eventSource IS NULL THEN 'eventSource is missing'
        WHEN fields.eventName IS NULL THEN 'eventName is missing'
    END AS reason,
    -- Other years are no time at all: Python has none before 1 and after 9999.
    CASE WHEN year(ts) BETWEEN 2000 AND 2099 THEN ts END AS ts,
    -- Service-made records have no key; an assumed role's short-lived key is one key a session.
    nullif(fields.userIdentity.accessKeyId, '') AS key_id,
    nullif(fields.userIdentity.accessKeyId, '') AS "key",
    fields.sourceIPAddress AS address,
    NULL::VARCHAR AS method,
    replace(fields.eventSource, '.amazonaws.com', '') || ':' || fields.eventName AS endpoint,
    coalesce(
        fields.resources[1].ARN, fields.requestParameters.secretId,
        fields.requestParameters.bucketName, fields.requestParameters.instanceId,
        fields.requestParameters.userName, fields.requestParameters.roleName,
        fields.requestParameters.functionName, fields.requestParameters.name
    ) AS object,
    fields.awsRegion AS path,
    CASE
        WHEN fields.errorCode IS NULL THEN 200
        WHEN regexp_matches(fields.errorCode, '(?i)accessdenied|unauthorized|forbidden') THEN 403
        WHEN regexp_matches(
            fields.errorCode, '(?i)authfailure|invalidclienttoken|expiredtoken|signature'
        ) THEN 401
        WHEN regexp_matches(fields.errorCode, '(?i)notfound|nosuch') THEN 404
        WHEN regexp_matches(fields.errorCode, '(?i)throttl|rateexceeded|requestlimit') THEN 429
        ELSE 400
    END::SMALLINT AS status,
    fields.userAgent AS user_agent,
    try_cast(fields.additionalEventData.bytesTransferredOut AS BIGINT) AS response_bytes,
    NULL::DOUBLE AS duration_ms,
    fields.eventID AS request_id
FROM (
    SELECT *, utc(fields.eventTime) AS ts
    FROM (
        SELECT *, TRY(json_transform(text, '{
            "eventTime": "VARCHAR", "eventID": "VARCHAR", "eventSource": "VARCHAR",
            "eventName": "VARCHAR", "awsRegion": "VARCHAR", "sourceIPAddress": "VARCHAR",
            "userAgent": "VARCHAR", "errorCode": "VARCHAR",
            "userIdentity": {"accessKeyId": "VARCHAR"},
            "additionalEventData": {"bytesTransferredOut": "VARCHAR"},
            "resources": [{"ARN": "VARCHAR"}],
            "requestParameters": {
                "secretId": "VARCHAR", "bucketName": "VARCHAR", "instanceId": "VARCHAR",
                "userName": "VARCHAR", "roleName": "VARCHAR", "functionName": "VARCHAR",
                "name": "VARCHAR"
            }
        }')) AS fields
        FROM raw
    )
)
