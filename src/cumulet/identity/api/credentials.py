"""/v3/credentials, and a user's EC2 keys."""

from typing import Any

import msgspec

from cumulet.core.web import Call, Delete, Get, Patch, Post
from cumulet.identity.api.collection import collected, links, page, where
from cumulet.identity.api.judge import changes, judge, need, standing
from cumulet.identity.records import Credential
from cumulet.identity.resources import CREDENTIAL, EC2_KEYS, show
from cumulet.identity.service.credentials import EC2

__all__ = ["ROUTES"]


def credential_view(call: Call, credential: Credential) -> dict[str, Any]:
    blob = call.service.credentials.blob(credential)
    return show(call, CREDENTIAL, credential, blob=blob, links=links(call, f"/v3/credentials/{credential.id}"))


def keys_view(call: Call, credential: Credential) -> dict[str, Any]:
    pair = msgspec.json.decode(call.service.credentials.blob(credential))
    return {
        "access": pair["access"],
        "secret": pair.get("secret", ""),
        "trust_id": pair.get("trust_id"),
        "user_id": credential.user_id,
        "tenant_id": credential.project_id,
        "links": links(call, f"/v3/users/{credential.user_id}/credentials/OS-EC2/{pair['access']}"),
    }


def list_credentials(call: Call) -> dict[str, Any]:
    """Everybody's for who may see them, else the caller's own."""
    chosen = where(call, "user_id", "type")

    def visible(credential: Credential) -> bool:
        return call.allowed("identity:get_credential", **{"target.credential.user_id": credential.user_id})

    return page(call, "credentials", Credential, credential_view, keep=visible, path="/v3/credentials", **chosen)


def create_credential(call: Call) -> dict[str, Any]:
    judge(call, "create_credential", credential={"user_id": call.body["user_id"]})
    return {"credential": credential_view(call, call.service.credentials.create(call.body, standing(call)))}


def show_credential(call: Call, credential_id: str) -> dict[str, Any]:
    return {
        "credential": credential_view(call, need(call, "get_credential", Credential, credential_id, word="credential"))
    }


def update_credential(call: Call, credential_id: str) -> dict[str, Any]:
    need(call, "update_credential", Credential, credential_id, word="credential")
    changed = call.service.credentials.update(credential_id, changes(call, credential_id), standing(call))
    return {"credential": credential_view(call, changed)}


def delete_credential(call: Call, credential_id: str) -> None:
    need(call, "delete_credential", Credential, credential_id, word="credential")
    call.service.credentials.delete(credential_id, standing(call))


def list_keys(call: Call, user_id: str) -> dict[str, Any]:
    judge(call, "ec2_list_credentials", path_user_id=user_id)
    return collected(call, "credentials", call.service.realm.find(Credential, user_id=user_id, type=EC2), keys_view)


def create_keys(call: Call, user_id: str) -> dict[str, Any]:
    judge(call, "ec2_create_credential", credential={"user_id": user_id})
    made = call.service.credentials.create_ec2(user_id, call.body["tenant_id"], standing(call))
    return {"credential": keys_view(call, made)}


def show_keys(call: Call, user_id: str, access: str) -> dict[str, Any]:
    found = _keys(call, user_id, access)
    judge(call, "ec2_get_credential", credential=found)
    return {"credential": keys_view(call, found)}


def delete_keys(call: Call, user_id: str, access: str) -> None:
    found = _keys(call, user_id, access)
    judge(call, "ec2_delete_credential", credential=found)
    call.service.credentials.delete(found.id, standing(call))


def _keys(call: Call, user_id: str, access: str) -> Credential:
    """A pair of keys; judged by whose it really is, whatever user the path names."""
    call.service.users.user(user_id)
    found: Credential = call.service.credentials.ec2(access)
    return found


_KEYS = "/v3/users/{user_id}/credentials/OS-EC2"

ROUTES = [
    Get("/v3/credentials", list_credentials, may="identity:list_credentials"),
    Post("/v3/credentials", create_credential, may="identity:create_credential", takes=CREDENTIAL),
    Get("/v3/credentials/{credential_id}", show_credential, may="identity:get_credential"),
    Patch("/v3/credentials/{credential_id}", update_credential, may="identity:update_credential", takes=CREDENTIAL),
    Delete("/v3/credentials/{credential_id}", delete_credential, may="identity:delete_credential"),
    Get(_KEYS, list_keys, may="identity:ec2_list_credentials"),
    Post(_KEYS, create_keys, may="identity:ec2_create_credential", takes=EC2_KEYS),
    Get(f"{_KEYS}/{{access}}", show_keys, may="identity:ec2_get_credential"),
    Delete(f"{_KEYS}/{{access}}", delete_keys, may="identity:ec2_delete_credential"),
]
