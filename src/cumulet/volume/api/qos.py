"""/qos-specs: limits of speed that types may name."""

from typing import Any

from cumulet.core.errors import BadRequest
from cumulet.core.web import Call, Delete, Get, Post, Put, Response
from cumulet.volume.api import listing
from cumulet.volume.api.caller import service
from cumulet.volume.api.schemas import wrapped
from cumulet.volume.api.views import links
from cumulet.volume.records import Qos

__all__ = ["ROUTES"]

_MANAGE = "volume_extension:qos_specs_manage"
_CONSUMERS = ("front-end", "back-end", "both")


def _view(qos: Qos) -> dict[str, Any]:
    return {"id": qos.id, "name": qos.name, "consumer": qos.consumer, "specs": qos.specs}


def list_qos(call: Call) -> Any:
    return {"qos_specs": [_view(qos) for qos in service(call).types.all_qos()]}


def show_qos(call: Call, id: str) -> Any:
    return {"qos_specs": _view(service(call).types.qos(id)), "links": links(call, f"/qos-specs/{id}")}


def create_qos(call: Call) -> Any:
    body = dict(call.body["qos_specs"])
    name, consumer = body.pop("name").strip(), body.pop("consumer", "back-end")
    if not name:
        raise BadRequest("Name of the QoS specs can not be empty.")
    if consumer not in _CONSUMERS:
        raise BadRequest(f"Invalid consumer: {consumer}. Valid consumers of QoS specs are: {', '.join(_CONSUMERS)}.")
    qos = service(call).types.create_qos(name, consumer, {key: str(value) for key, value in body.items()})
    return {"qos_specs": _view(qos), "links": links(call, f"/qos-specs/{qos.id}")}


def set_keys(call: Call, id: str) -> Any:
    body = dict(call.body["qos_specs"])
    consumer = body.pop("consumer", None)
    if consumer is not None and consumer not in _CONSUMERS:
        raise BadRequest(f"Invalid consumer: {consumer}.")
    service(call).types.change_qos(id, {key: str(value) for key, value in body.items()}, consumer=consumer)
    return {"qos_specs": call.body["qos_specs"]}


def delete_keys(call: Call, id: str) -> Response:
    service(call).types.change_qos(id, dict.fromkeys(call.body["keys"]))
    return Response(202)


def delete_qos(call: Call, id: str) -> Response:
    service(call).types.delete_qos(id, force=listing.flag(call, "force"))
    return Response(202)


def list_associations(call: Call, id: str) -> Any:
    found = service(call).types.types_of_qos(id)
    return {
        "qos_associations": [{"association_type": "volume_type", "name": kind.name, "id": kind.id} for kind in found]
    }


def _type(call: Call) -> str:
    type_id = call.one("vol_type_id")
    if not type_id:
        raise BadRequest("Volume Type id must not be None.")
    return type_id


def associate(call: Call, id: str) -> Response:
    service(call).types.associate_qos(id, _type(call), on=True)
    return Response(202)


def disassociate(call: Call, id: str) -> Response:
    service(call).types.associate_qos(id, _type(call), on=False)
    return Response(202)


def disassociate_all(call: Call, id: str) -> Response:
    service(call).types.disassociate_all(id)
    return Response(202)


_VALUE = {"type": ["string", "number", "integer", "boolean"], "maxLength": 255}
_KEYS = {r"^[a-zA-Z0-9\-_:. ]{1,255}$": _VALUE}
_CREATE = wrapped(
    "qos_specs",
    {
        "type": "object",
        "properties": {"name": {"type": "string", "minLength": 1, "maxLength": 255}},
        "patternProperties": _KEYS,
        "required": ["name"],
        "additionalProperties": False,
    },
)
_SET = wrapped(
    "qos_specs", {"type": "object", "patternProperties": _KEYS, "additionalProperties": False, "minProperties": 1}
)
_UNSET = wrapped(
    "keys", {"type": "array", "items": {"type": "string", "minLength": 1, "maxLength": 255}, "minItems": 1}
)

ROUTES = [
    Get("/v3/qos-specs", list_qos, may=f"{_MANAGE}:get_all"),
    Post("/v3/qos-specs", create_qos, may=f"{_MANAGE}:create", takes=_CREATE, status=200),
    Get("/v3/qos-specs/{id}", show_qos, may=f"{_MANAGE}:get"),
    Put("/v3/qos-specs/{id}", set_keys, may=f"{_MANAGE}:update", takes=_SET),
    Put("/v3/qos-specs/{id}/delete_keys", delete_keys, may=f"{_MANAGE}:update", takes=_UNSET),
    Delete("/v3/qos-specs/{id}", delete_qos, may=f"{_MANAGE}:delete"),
    Get("/v3/qos-specs/{id}/associations", list_associations, may=f"{_MANAGE}:get_all"),
    Get("/v3/qos-specs/{id}/associate", associate, may=f"{_MANAGE}:update"),
    Get("/v3/qos-specs/{id}/disassociate", disassociate, may=f"{_MANAGE}:update"),
    Get("/v3/qos-specs/{id}/disassociate_all", disassociate_all, may=f"{_MANAGE}:update"),
]
