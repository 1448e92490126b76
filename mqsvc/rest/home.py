"""``/`` and ``/v2/``: what there is (rest.md 5.1, 5.2)."""

from __future__ import annotations

import json
import re
from typing import Any

from attrs import frozen

from mqsvc.rest.answer import Answer
from mqsvc.rest.call import Call
from mqsvc.rest.route import Entry, Route

_VERSIONS = {
    "versions": [
        {
            "id": "2",
            "status": "CURRENT",
            "updated": "2014-9-24T04:06:47Z",
            "media-types": [
                {
                    "base": "application/json",
                    "type": "application/vnd.openstack.messaging-v2+json",
                }
            ],
            "links": [{"href": "/v2/", "rel": "self"}],
        }
    ]
}

_QUEUE = "/v2/queues/{queue_name}"
_TOPIC = "/v2/topics/{topic_name}"

# Relation, template, methods, and variables that are not called like their parameter.
_RELATIONS: tuple[tuple[str, str, str, dict[str, str]], ...] = (
    (
        "queues",
        "/v2/queues{?marker,limit,detailed}",
        "GET",
        {"limit": "queue_limit"},
    ),
    ("queue", _QUEUE, "GET PUT DELETE PATCH", {}),
    ("queue_stats", f"{_QUEUE}/stats", "GET", {}),
    ("queue_share", f"{_QUEUE}/share", "POST", {}),
    ("queue_purge", f"{_QUEUE}/purge", "POST", {}),
    (
        "messages",
        f"{_QUEUE}/messages{{?marker,limit,echo,include_claimed}}",
        "GET",
        {"limit": "messages_limit"},
    ),
    ("post_messages", f"{_QUEUE}/messages", "POST", {}),
    ("messages_delete", f"{_QUEUE}/messages{{?ids,pop}}", "DELETE", {}),
    (
        "message_delete",
        f"{_QUEUE}/messages/{{message_id}}{{?claim_id}}",
        "DELETE",
        {},
    ),
    ("message_get", f"{_QUEUE}/messages/{{message_id}}", "GET", {}),
    ("claim", f"{_QUEUE}/claims/{{claim_id}}", "GET", {}),
    ("post_claim", f"{_QUEUE}/claims{{?limit}}", "POST", {"limit": "claim_limit"}),
    ("patch_claim", f"{_QUEUE}/claims/{{claim_id}}", "PATCH", {}),
    ("delete_claim", f"{_QUEUE}/claims/{{claim_id}}", "DELETE", {}),
    (
        "subscriptions_get",
        f"{_QUEUE}/subscriptions{{?marker,limit}}",
        "GET",
        {"limit": "subscription_limit"},
    ),
    (
        "subscriptions_post",
        f"{_QUEUE}/subscriptions",
        "POST",
        {"limit": "subscription_limit"},
    ),
    ("subscription", f"{_QUEUE}/subscriptions/{{subscriptions_id}}", "GET DELETE", {}),
    (
        "subscription_patch",
        f"{_QUEUE}/subscriptions/{{subscriptions_id}}",
        "PATCH",
        {},
    ),
    (
        "subscription_confirm",
        f"{_QUEUE}/subscriptions/{{subscriptions_id}}/confirm",
        "PUT",
        {},
    ),
    (
        "topics",
        "/v2/topics{?marker,limit,detailed}",
        "GET",
        {"limit": "topic_limit"},
    ),
    ("topic", _TOPIC, "GET PUT DELETE PATCH", {}),
    ("topic_stats", f"{_TOPIC}/stats", "GET", {}),
    ("topic_purge", f"{_TOPIC}/purge", "POST", {}),
    (
        "topic_messages",
        f"{_TOPIC}/messages{{?marker,limit,echo}}",
        "GET",
        {"limit": "messages_limit"},
    ),
    ("topic_post_messages", f"{_TOPIC}/messages", "POST", {}),
    (
        "topic_subscriptions",
        f"{_TOPIC}/subscriptions{{?marker,limit}}",
        "GET",
        {"limit": "subscription_limit"},
    ),
    ("topic_subscriptions_post", f"{_TOPIC}/subscriptions", "POST", {}),
    ("ping", "/v2/ping", "GET", {}),
)

_ADMINISTRATION: tuple[tuple[str, str, str, dict[str, str]], ...] = (
    ("pools", "/v2/pools{?detailed,limit,marker}", "GET", {"limit": "pool_limit"}),
    ("pool", "/v2/pools/{pool_name}", "GET PUT PATCH DELETE", {}),
    (
        "flavors",
        "/v2/flavors{?detailed,limit,marker}",
        "GET",
        {"limit": "flavor_limit"},
    ),
    ("flavor", "/v2/flavors/{flavor_name}", "GET PUT PATCH DELETE", {}),
)

_VARIABLES = re.compile(r"\{\??([^}]*)\}")


@frozen
class HomeResource:
    """Handlers for the home documents.

    :ivar _admin_mode: whether the administrative resources exist here.
    :ivar _pooling: whether pools and flavors are among them.
    """

    _admin_mode: bool
    _pooling: bool

    def routes(self) -> list[Route]:
        """The table of paths."""
        document = home_document(self._admin_mode, self._pooling)
        body = json.dumps(document, indent=4).encode()

        async def home(_: Call) -> Answer:
            return Answer(
                200, body, {"cache-control": "max-age=86400"}, "application/json-home"
            )

        return [
            Route("/", {"GET": Entry("", _versions)}, is_open=True),
            Route("/v2/", {"GET": Entry("", home)}),
        ]


async def _versions(_: Call) -> Answer:
    return Answer(300, _VERSIONS)


def home_document(admin_mode: bool, pooling: bool) -> dict[str, Any]:
    """The JSON Home document of this process."""
    relations = [*_RELATIONS, *(_ADMINISTRATION if admin_mode and pooling else ())]
    resources = {
        f"rel/{name}": _relation(template, methods, renamed)
        for name, template, methods, renamed in relations
    }
    if admin_mode:
        resources["rel/health"] = {"href": "/v2/health", "hints": _hints("GET")}
    return {"resources": resources}


def _relation(template: str, methods: str, renamed: dict[str, str]) -> dict[str, Any]:
    names = [
        name for found in _VARIABLES.findall(template) for name in found.split(",")
    ]
    variables = {name: f"param/{name}" for name in names}
    variables |= {name: f"param/{other}" for name, other in renamed.items()}
    relation: dict[str, Any] = {"href-template": template}
    if variables:
        relation["href-vars"] = variables
    return relation | {"hints": _hints(methods)}


def _hints(methods: str) -> dict[str, Any]:
    hints: dict[str, Any] = {
        "allow": methods.split(),
        "formats": {"application/json": {}},
    }
    if methods in {"POST", "PATCH"}:
        hints["accept-post"] = ["application/json"]
    return hints
