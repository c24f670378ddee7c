"""What became of a request, in words, as an HTTP status."""

from __future__ import annotations

import pytest

from keywatch.vendors.outcomes import status_of


@pytest.mark.parametrize(
    ("outcomes", "status"),
    [
        ("Success success OK ALLOW", 200),
        ("UnrecognizedClientException InvalidAccessKeyId InvalidClientTokenId ExpiredToken "
         "CloudTrailInvalidClientTokenIdException ExpiredTokenException RequestExpired "
         "SignatureDoesNotMatch IncompleteSignature MissingAuthenticationToken Client.AuthFailure "
         "UNAUTHENTICATED 16", 401),
        ("AccessDenied AccessDeniedException Client.UnauthorizedOperation VpceAccessDenied "
         "KMS.AccessDeniedException NotAuthorized NotAuthorizedException AuthorizationError "
         "Client.OperationNotPermitted FORBIDDEN DENY PERMISSION_DENIED 7", 403),
        ("NoSuchKey ResourceNotFoundException InvalidInstanceID.NotFound NOT_FOUND 5", 404),
        ("TooManyRequestsException SlowDown Client.RequestLimitExceeded ThrottlingException "
         "ProvisionedThroughputExceededException RESOURCE_EXHAUSTED 8", 429),
        ("AccessControlListNotSupported InvalidParameterValue FAILURE BAD_USER_INPUT 3", 400),
        ("InternalFailure InternalError Server.InternalError INTERNAL_SERVER_ERROR 13", 500),
        ("ServiceUnavailable Server.Unavailable UNAVAILABLE 14", 503),
        ("503", 503),
    ],
)  # fmt: skip
def test_words_for_an_outcome_are_statuses(outcomes: str, status: int) -> None:
    told = {outcome: status_of(outcome) for outcome in outcomes.split()}
    assert told == dict.fromkeys(told, status)
