"""Errors named for what the caller did or met.

Each class carries the HTTP status, the code word of the compute-style envelopes, and public words; `detail` is private, for the
operator's log and the admin's fault.  One renderer per API turns an error into that API's envelope (`core.web.envelope`), so no
handler has an `except` ladder.
"""

from typing import Any, ClassVar

__all__ = [
    "BadRequest",
    "CloudError",
    "Conflict",
    "Forbidden",
    "Gone",
    "MethodNotAllowed",
    "NotAcceptable",
    "NotFound",
    "OverLimit",
    "PayloadTooLarge",
    "PreconditionFailed",
    "RangeNotSatisfiable",
    "RequestTimeout",
    "ServerFault",
    "Unauthorized",
    "Unavailable",
    "UnsupportedMediaType",
]


class CloudError(Exception):
    """An error that an API may show.  `message` is safe for the tenant; `detail` is not."""

    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal Server Error"
    #: the key of the compute and volume envelopes
    code: ClassVar[str] = "computeFault"
    default: ClassVar[str] = "The server has either erred or is incapable of performing the requested operation."

    def __init__(self, message: str | None = None, *, detail: str | None = None, **fields: Any) -> None:
        self.message = message if message is not None else self.default.format(**fields)
        self.detail = detail
        self.fields = fields
        self.headers: dict[str, str] = {}
        super().__init__(self.message)

    @property
    def kind(self) -> str:
        """The error's name on the wire where an API shows one (network's `type`)."""
        return type(self).__name__


class BadRequest(CloudError):
    status = 400
    title = "Bad Request"
    code = "badRequest"
    default = "The request is malformed."


class Unauthorized(CloudError):
    status = 401
    title = "Unauthorized"
    code = "unauthorized"
    default = "The request you have made requires authentication."


class Forbidden(CloudError):
    status = 403
    title = "Forbidden"
    code = "forbidden"
    default = "You are not authorized to perform the requested action."


class NotFound(CloudError):
    status = 404
    title = "Not Found"
    code = "itemNotFound"
    default = "The resource could not be found."


class MethodNotAllowed(CloudError):
    status = 405
    title = "Method Not Allowed"
    code = "badMethod"
    default = "The method is not allowed for this resource."


class NotAcceptable(CloudError):
    status = 406
    title = "Not Acceptable"
    code = "notAcceptable"
    default = "The requested version is not supported."


class RequestTimeout(CloudError):
    status = 408
    title = "Request Timeout"
    code = "requestTimeout"
    default = "The request did not arrive in time."


class Conflict(CloudError):
    status = 409
    title = "Conflict"
    code = "conflictingRequest"
    default = "The request conflicts with the state of the resource."


class Gone(CloudError):
    status = 410
    title = "Gone"
    code = "gone"
    default = "This resource is gone."


class PreconditionFailed(CloudError):
    status = 412
    title = "Precondition Failed"
    code = "preconditionFailed"
    default = "A precondition of the request does not hold."


class PayloadTooLarge(CloudError):
    status = 413
    title = "Request Entity Too Large"
    code = "overLimit"
    default = "The request body is too large."


class OverLimit(PayloadTooLarge):
    """A quota would be exceeded, in the volume API's envelope and status."""


class UnsupportedMediaType(CloudError):
    status = 415
    title = "Unsupported Media Type"
    code = "badMediaType"
    default = "The content type is not supported."


class RangeNotSatisfiable(CloudError):
    status = 416
    title = "Requested Range Not Satisfiable"
    code = "badRequest"
    default = "The requested range lies outside the data."


class ServerFault(CloudError):
    """Something of ours failed; the words for the tenant say no more than that."""


class Unavailable(CloudError):
    status = 503
    title = "Service Unavailable"
    code = "serviceUnavailable"
    default = "The service is not available at this time."
