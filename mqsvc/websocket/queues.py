"""Actions on queues and topics (websocket.md 5.1)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from attrs import frozen

from mqsvc.access.signed_urls import SignedUrls
from mqsvc.clock import Now
from mqsvc.messaging.errors import DestinationDoesNotExist, InvalidRequest
from mqsvc.messaging.model import Destination, Kind, Message, Record
from mqsvc.messaging.queues import Queues
from mqsvc.websocket.call import Action, Call
from mqsvc.websocket.envelope import Reply
from mqsvc.websocket.feeds import Feeds
from mqsvc.websocket.schema import KINDS, Schema
from mqsvc.websocket.shapes import Ages
from mqsvc.wire import codec

_AFTER_ALL_NAMES = "~"
"""A character greater than any that a name can have."""


@frozen
class QueueActions:
    """What can be done with queues, or with topics."""

    _queues: Queues
    _feeds: Feeds
    _signed_urls: SignedUrls
    _ages: Ages
    _now: Now

    def table(self) -> dict[str, Action]:
        """The actions by name."""
        actions: dict[str, Action] = {}
        for key, kind in KINDS.items():
            actions |= self._table(key, kind)
        share = Schema.of("", "paths methods expires", "queue_name")
        actions["signed_url_create"] = Action(self.share, share, "queues:share")
        return actions

    def _table(self, key: str, kind: Kind) -> dict[str, Action]:
        listing = Schema.of("", "marker limit detailed name with_count kfilter")
        named, with_metadata = Schema.of(kinds=key), Schema.of("", "metadata", key)
        changed = Schema.of("metadata", "", key)
        resources = Schema.of("", "resource_types", key)

        async def page(call: Call) -> Reply:
            return await self.page(call, kind)

        rules = f"{kind.value}s"
        actions = {
            "create": Action(self.create, with_metadata, f"{rules}:create"),
            "list": Action(page, listing, f"{rules}:get_all"),
            "get": Action(self.show, named, f"{rules}:get"),
            "get_metadata": Action(self.describe, named, f"{rules}:get"),
            "exists": Action(self.exists, named, f"{rules}:get"),
            "get_stats": Action(self.stats, named, f"{rules}:stats"),
            "update": Action(self.update, changed, f"{rules}:update"),
            "set_metadata": Action(self.replace, changed, f"{rules}:update"),
            "delete": Action(self.delete, named, f"{rules}:delete"),
            "purge": Action(self.purge, resources, f"{rules}:purge"),
        }
        return {f"{kind.value}_{name}": action for name, action in actions.items()}

    async def create(self, call: Call) -> Reply:
        """Make one, with metadata."""
        metadata = call.body.get("metadata")
        # Neither of them says anything, and old clients send both.
        metadata = {} if metadata is None or metadata == [] else metadata
        self._queues.check_size(len(codec.encode(metadata)))
        created = await self._queues.create(call.destination, metadata)
        return Reply(201 if created else 204, f"{_title(call)} created.")

    async def page(self, call: Call, kind: Kind) -> Reply:
        """List them by name."""
        body, project = call.body, call.caller.project
        records = await self._queues.page(
            project,
            kind,
            body.get("limit"),
            body.get("marker", ""),
            body.get("name", ""),
            body.get("kfilter", {}),
        )
        is_detailed = body.get("detailed", False)
        listing: dict[str, Any] = {
            f"{kind.value}s": [_entry(record, is_detailed) for record in records]
        }
        if records:
            listing["marker"] = records[-1].destination.name
        if body.get("with_count"):
            listing["count"] = await self._queues.count(project, kind)
        return Reply(200, listing)

    async def show(self, call: Call) -> Reply:
        """The metadata as it was given; none when there is no such queue."""
        record = await self._record(call.destination)
        return Reply(200, {} if record is None else record.metadata)

    async def describe(self, call: Call) -> Reply:
        """The metadata with reserved defaults filled in."""
        return Reply(200, await self._queues.describe(call.destination))

    async def exists(self, call: Call) -> Reply:
        """Whether there is one of that name."""
        await self._existing(call.destination)
        return Reply(204)

    async def stats(self, call: Call) -> Reply:
        """Numbers, and the messages at both ends."""
        stats = await self._queues.stats(call.destination)
        numbers: dict[str, Any] = {
            "claimed": stats.claimed,
            "free": stats.free,
            "total": stats.total,
        }
        for name, message in (("newest", stats.newest), ("oldest", stats.oldest)):
            if message is not None:
                numbers[name] = self._end(call, message)
        is_known = stats.total or await self._record(call.destination)
        return Reply(200 if is_known else 404, {"messages": numbers})

    def _end(self, call: Call, message: Message) -> dict[str, Any]:
        return {
            **call.message(message, self._ages.of(message)),
            "claim_id": message.claim_id,
            "claim_count": message.claim_count,
            "created": _timestamp(message.created),
        }

    async def update(self, call: Call) -> Reply:
        """Change metadata by operations, as HTTP does."""
        changes = call.body["metadata"]
        self._queues.check_size(len(codec.encode(changes)))
        return Reply(200, await self._queues.change(call.destination, changes))

    async def replace(self, call: Call) -> Reply:
        """Replace the metadata as a whole."""
        metadata = call.body["metadata"]
        if not isinstance(metadata, Mapping):
            raise InvalidRequest("'metadata' must be an object.")
        self._queues.check_size(len(codec.encode(metadata)))
        old = (await self._existing(call.destination)).metadata
        changes = [_operation("remove", key) for key in old if key not in metadata]
        changes += [_operation("add", key, value=v) for key, v in metadata.items()]
        await self._queues.change(call.destination, changes)
        return Reply(204)

    async def delete(self, call: Call) -> Reply:
        """Remove one and everything in it."""
        await self._queues.delete(call.destination)
        self._feeds.end_all(call.destination)
        return Reply(204, f"{_title(call)} removed.")

    async def purge(self, call: Call) -> Reply:
        """Empty one."""
        wanted = call.body.get("resource_types")
        document = None if wanted is None else {"resource_types": wanted}
        await self._queues.purge(call.destination, document)
        if wanted is None or "subscriptions" in wanted:
            self._feeds.end_all(call.destination)
        return Reply(204)

    async def share(self, call: Call) -> Reply:
        """Sign access for others."""
        grant = self._signed_urls.share(call.destination, call.document(), self._now())
        return Reply(
            200,
            {
                "paths": grant.paths,
                "methods": grant.methods,
                "project": grant.project,
                "expires": grant.expires,
                "signature": grant.signature,
            },
        )

    async def _existing(self, destination: Destination) -> Record:
        record = await self._record(destination)
        if record is None:
            kind, name = destination.kind.value, destination.name
            raise DestinationDoesNotExist(f"The {kind} {name} does not exist.")
        return record

    async def _record(self, destination: Destination) -> Record | None:
        """The record of one, as the first name that is not below its own."""
        kind, name = destination.kind, destination.name
        below = f"{name[:-1]}{chr(ord(name[-1]) - 1)}{_AFTER_ALL_NAMES}"
        found = await self._queues.page(destination.project, kind, 1, below, "", {})
        return found[0] if found and found[0].destination == destination else None


def _title(call: Call) -> str:
    destination = call.destination
    return f"{destination.kind.value.capitalize()} {destination.name}"


def _entry(record: Record, is_detailed: bool) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": record.destination.name}
    return entry | {"metadata": record.metadata} if is_detailed else entry


def _operation(operation: str, key: str, **value: Any) -> dict[str, Any]:
    escaped = key.replace("~", "~0").replace("/", "~1")
    return {"op": operation, "path": f"/metadata/{escaped}", **value}


def _timestamp(moment: int) -> str:
    return datetime.fromtimestamp(moment // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
