"""What a browser's form says."""

from urllib.parse import parse_qs
from uuid import UUID

from starlette.requests import ClientDisconnect, Request

from cumulet.dashboard.client import Refused

__all__ = ["Form", "read_form", "same_origin"]

#: user data may be 64 KiB in base64, and every byte of it three characters in a form
FORM_BYTES_MAX = 256 << 10
FIELDS_MAX = 200


class Form:
    """The fields by name, each with its values in order."""

    def __init__(self, fields: dict[str, list[str]]) -> None:
        self._fields = fields

    def text(self, name: str) -> str:
        """The field's last value without surrounding space; empty where there is none."""
        return self.raw(name).strip()

    def raw(self, name: str) -> str:
        values = self._fields.get(name)
        return values[-1] if values else ""

    def many(self, name: str) -> list[str]:
        return self._fields.get(name, [])

    def id(self, name: str) -> str:
        """A field that must be an identifier, as it then stands in a path."""
        try:
            return str(UUID(self.text(name)))
        except ValueError:
            raise Refused(400, f"The form's {name} is no identifier.") from None


async def read_form(request: Request) -> Form:
    """Raises Refused for what is too long or no form."""
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/x-www-form-urlencoded":
        raise Refused(415, "A form is expected.")
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > FORM_BYTES_MAX:
                raise Refused(413, f"The form is longer than {FORM_BYTES_MAX >> 10} KiB.")
    except ClientDisconnect:
        raise Refused(400, "The form did not arrive.") from None
    try:
        return Form(parse_qs(body.decode(), keep_blank_values=True, max_num_fields=FIELDS_MAX))
    except ValueError:  # no UTF-8, or too many fields
        raise Refused(400, "The form cannot be read.") from None


def same_origin(request: Request) -> bool:
    """Whether a page of ours sent the form: a second lock beside the form's mark.  What is no browser sends neither header."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = request.headers.get("origin")
    return origin is None or origin.partition("://")[2] == request.headers.get("host")
