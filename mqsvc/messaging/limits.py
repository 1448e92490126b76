"""All bounds of the API, with the names and defaults of rest.md section 3.1."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

Seconds = Annotated[int, Meta(ge=60)]
"""The smallest time to live and the smallest grace are a minute, always."""

Count = Annotated[int, Meta(ge=1)]

DEFAULT_PAGE_SIZE = 10
"""Items on a page or in a claim when the caller names no limit."""

MIN_TTL = 60
"""Seconds: the least time to live of a message, claim or subscription, and grace."""

MAX_NAME_LENGTH = 64
MAX_PROJECT_LENGTH = 256

MAX_CATALOG_TEXT = 255
"""Characters of the name of a pool or flavor, and of the URI of a pool."""


class Limits(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The ``transport`` group of the configuration."""

    default_message_ttl: Seconds = 3600
    default_message_delay: Annotated[int, Meta(ge=0)] = 0
    default_claim_ttl: Seconds = 300
    default_claim_grace: Seconds = 60
    default_subscription_ttl: Seconds = 3600
    max_queues_per_page: Count = 20
    max_messages_per_page: Count = 20
    max_messages_per_claim_or_pop: Count = 20
    max_subscriptions_per_page: Count = 20
    max_pools_per_page: Count = 20
    max_flavors_per_page: Count = 20
    max_queue_metadata: Count = 65536
    max_messages_post_size: Count = 262144
    max_message_ttl: Seconds = 1209600
    max_message_delay: Annotated[int, Meta(ge=0)] = 900
    max_claim_ttl: Seconds = 43200
    max_claim_grace: Seconds = 43200
    subscriber_types: tuple[str, ...] = (
        "http",
        "https",
        "mailto",
        "queue",
        "topic",
        "trust+http",
        "trust+https",
    )
    client_id_uuid_safe: Literal["strict", "off"] = "strict"
    min_length_client_id: Annotated[int, Meta(ge=1, le=64)] = 10
    max_length_client_id: Annotated[int, Meta(ge=1, le=64)] = 36
    message_delete_with_claim_id: bool = False
