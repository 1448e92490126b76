"""``/v2/queues`` and ``/v2/topics``: records and metadata (rest.md 5.5 to 5.12)."""

from __future__ import annotations

from typing import Any

from attrs import frozen

from mqsvc.access.signed_urls import SignedUrls
from mqsvc.clock import Now
from mqsvc.messaging.errors import UnsupportedMediaType
from mqsvc.messaging.model import Kind, Record
from mqsvc.messaging.patch import MEDIA_TYPE
from mqsvc.messaging.queues import Queues
from mqsvc.rest.answer import Answer
from mqsvc.rest.call import Call, path_of
from mqsvc.rest.query import next_links
from mqsvc.rest.route import Entry, Route
from mqsvc.rest.shapes import Shapes

_LIST_PARAMETERS = ("marker", "limit", "detailed", "with_count", "name")


@frozen
class QueueResource:
    """Handlers for the destinations of one kind."""

    _queues: Queues
    _signed_urls: SignedUrls
    _shapes: Shapes
    _now: Now
    _kind: Kind

    def routes(self) -> list[Route]:
        """The table of paths."""
        kind, rules = self._kind, f"{self._kind.value}s"
        base = f"/v2/{rules}"
        stats = {"GET": Entry(f"{rules}:stats", self.stats)}
        purge = {"POST": Entry(f"{rules}:purge", self.purge)}
        item = {
            "GET": Entry(f"{rules}:get", self.show),
            "PUT": Entry(f"{rules}:create", self.create),
            "PATCH": Entry(f"{rules}:update", self.change),
            "DELETE": Entry(f"{rules}:delete", self.delete),
        }
        routes = [
            Route(base, {"GET": Entry(f"{rules}:get_all", self.page)}),
            Route(f"{base}/<destination>", item, kind),
            Route(f"{base}/<destination>/stats", stats, kind),
            Route(f"{base}/<destination>/purge", purge, kind),
        ]
        if kind is Kind.QUEUE:
            share = {"POST": Entry("queues:share", self.share)}
            routes.append(Route(f"{base}/<destination>/share", share, kind))
        return routes

    async def page(self, call: Call) -> Answer:
        """List destinations by name."""
        query, project = call.query, call.caller.project
        given: dict[str, Any] = {
            "limit": query.integer("limit"),
            "detailed": query.boolean("detailed"),
            "with_count": query.boolean("with_count"),
            "name": query.text("name"),
        }
        filters = query.others(_LIST_PARAMETERS)
        records = await self._queues.page(
            project,
            self._kind,
            given["limit"],
            query.text("marker") or "",
            given["name"] or "",
            {key: _number_or_text(value) for key, value in filters.items()},
        )
        collection = f"{self._kind.value}s"
        body: dict[str, Any] = {
            collection: [self._entry(r, bool(given["detailed"])) for r in records],
            "links": [],
        }
        if records:
            marker = records[-1].destination.name
            parameters = {**given, **filters, "marker": marker}
            body["links"] = next_links(f"/v2/{collection}", parameters)
        if given["with_count"]:
            body["count"] = await self._queues.count(project, self._kind)
        return Answer(200, body)

    def _entry(self, record: Record, detailed: bool) -> dict[str, Any]:
        entry: dict[str, Any] = {"name": record.destination.name}
        if detailed:
            entry["metadata"] = self._queues.shown(self._kind, record)
        entry["href"] = path_of(record.destination)
        return entry

    async def show(self, call: Call) -> Answer:
        """Metadata."""
        return Answer(200, await self._queues.describe(call.destination))

    async def create(self, call: Call) -> Answer:
        """Make one, with metadata."""
        self._queues.check_size(call.size)
        created = await self._queues.create(call.destination, call.object() or {})
        return Answer(201 if created else 204, headers={"location": call.path})

    async def change(self, call: Call) -> Answer:
        """Patch the metadata."""
        self._queues.check_size(call.size)
        if call.content_type != MEDIA_TYPE:
            raise UnsupportedMediaType(f"The Content-Type must be {MEDIA_TYPE}.")
        document = call.required_document()
        return Answer(200, await self._queues.change(call.destination, document))

    async def delete(self, call: Call) -> Answer:
        """Remove one and everything in it."""
        await self._queues.delete(call.destination)
        return Answer(204)

    async def stats(self, call: Call) -> Answer:
        """Numbers."""
        stats = await self._queues.stats(call.destination)
        return Answer(200, self._shapes.stats(stats, call.path))

    async def purge(self, call: Call) -> Answer:
        """Empty one."""
        await self._queues.purge(call.destination, call.object())
        return Answer(204)

    async def share(self, call: Call) -> Answer:
        """Issue a pre-signed URL."""
        document = call.required_object()
        grant = self._signed_urls.share(call.destination, document, self._now())
        return Answer(
            200,
            {
                "paths": grant.paths,
                "methods": grant.methods,
                "project": grant.project,
                "expires": grant.expires,
                "signature": grant.signature,
            },
        )


def _number_or_text(value: str) -> int | str:
    try:
        return int(value)
    except ValueError:
        return value
