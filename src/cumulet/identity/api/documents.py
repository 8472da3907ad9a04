"""/v3/policies and /v3/OS-OAUTH1/consumers: documents that identity keeps and does not act upon."""

from typing import Any

from cumulet.core.web import Call, Delete, Get, Patch, Post
from cumulet.identity.api.collection import links, page, where
from cumulet.identity.api.judge import changes
from cumulet.identity.records import Consumer, PolicyDocument
from cumulet.identity.resources import CONSUMER, POLICY, show

__all__ = ["ROUTES"]

_CONSUMERS = "/v3/OS-OAUTH1/consumers"


def policy_view(call: Call, document: PolicyDocument) -> dict[str, Any]:
    return show(call, POLICY, document, links=links(call, f"/v3/policies/{document.id}"))


def consumer_view(call: Call, consumer: Consumer) -> dict[str, Any]:
    return show(call, CONSUMER, consumer, links=links(call, f"{_CONSUMERS}/{consumer.id}"))


def list_policies(call: Call) -> dict[str, Any]:
    return page(call, "policies", PolicyDocument, policy_view, path="/v3/policies", **where(call, "type"))


def create_policy(call: Call) -> dict[str, Any]:
    return {"policy": policy_view(call, call.service.documents.create_policy(call.body))}


def show_policy(call: Call, policy_id: str) -> dict[str, Any]:
    return {"policy": policy_view(call, call.service.realm.get(PolicyDocument, policy_id))}


def update_policy(call: Call, policy_id: str) -> dict[str, Any]:
    return {"policy": policy_view(call, call.service.documents.update_policy(policy_id, changes(call, policy_id)))}


def delete_policy(call: Call, policy_id: str) -> None:
    call.service.documents.delete_policy(policy_id)


def list_consumers(call: Call) -> dict[str, Any]:
    return page(call, "consumers", Consumer, consumer_view, path=_CONSUMERS)


def create_consumer(call: Call) -> dict[str, Any]:
    consumer, secret = call.service.documents.create_consumer(call.body)
    return {"consumer": consumer_view(call, consumer) | {"secret": secret}}


def show_consumer(call: Call, consumer_id: str) -> dict[str, Any]:
    return {"consumer": consumer_view(call, call.service.realm.get(Consumer, consumer_id))}


def update_consumer(call: Call, consumer_id: str) -> dict[str, Any]:
    return {
        "consumer": consumer_view(call, call.service.documents.update_consumer(consumer_id, changes(call, consumer_id)))
    }


def delete_consumer(call: Call, consumer_id: str) -> None:
    call.service.documents.delete_consumer(consumer_id)


ROUTES = [
    Get("/v3/policies", list_policies, may="identity:list_policies"),
    Post("/v3/policies", create_policy, may="identity:create_policy", takes=POLICY),
    Get("/v3/policies/{policy_id}", show_policy, may="identity:get_policy"),
    Patch("/v3/policies/{policy_id}", update_policy, may="identity:update_policy", takes=POLICY),
    Delete("/v3/policies/{policy_id}", delete_policy, may="identity:delete_policy"),
    Get(_CONSUMERS, list_consumers, may="identity:list_consumers"),
    Post(_CONSUMERS, create_consumer, may="identity:create_consumer", takes=CONSUMER),
    Get(f"{_CONSUMERS}/{{consumer_id}}", show_consumer, may="identity:get_consumer"),
    Patch(f"{_CONSUMERS}/{{consumer_id}}", update_consumer, may="identity:update_consumer", takes=CONSUMER),
    Delete(f"{_CONSUMERS}/{{consumer_id}}", delete_consumer, may="identity:delete_consumer"),
]
