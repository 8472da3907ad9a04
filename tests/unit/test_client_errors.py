"""A door raises the error that the other service's answer names."""

import pytest

from cumulet.core import errors
from cumulet.core.clock import SystemClock
from cumulet.core.web.client import Client, RemoteError
from cumulet.core.web.http import Request, Response

CLASSES = [
    errors.BadRequest,
    errors.Unauthorized,
    errors.Forbidden,
    errors.NotFound,
    errors.MethodNotAllowed,
    errors.NotAcceptable,
    errors.RequestTimeout,
    errors.Conflict,
    errors.Gone,
    errors.PreconditionFailed,
    errors.PayloadTooLarge,
    errors.UnsupportedMediaType,
    errors.RangeNotSatisfiable,
    errors.Unavailable,
]


class Answers:
    """A service that answers everything with one status."""

    def __init__(self, status: int) -> None:
        self._status = status

    def send(self, request: Request) -> Response:
        return Response(self._status, {"error": {"message": f"words for {request.path}"}})


@pytest.mark.parametrize("kind", CLASSES)
def test_a_refusal_keeps_its_kind_and_its_words(kind: type[errors.CloudError]) -> None:
    """What the caller did is the caller's to know: an image refused by its format is 415 to whoever uploads it through a door."""
    with pytest.raises(kind) as raised:
        Client("image", Answers(kind.status), SystemClock()).send("PUT", "/file", None)
    assert type(raised.value) is kind
    assert raised.value.message == "words for /file"


@pytest.mark.parametrize("status", [418, 500, 502])
def test_a_failure_of_the_other_side_says_no_more(status: int) -> None:
    """Its words are for the operator."""
    with pytest.raises(RemoteError) as raised:
        Client("image", Answers(status), SystemClock()).send("PUT", "/file", None)
    assert (raised.value.status, "words" in raised.value.message) == (500, False)
    assert "words for /file" in (raised.value.detail or "")
