"""How the parameters of a query are read."""

from __future__ import annotations

from tests.rest.server import CONSUMER, RestTestCase, asking


class ParameterTests(RestTestCase):
    """How parameters are read."""

    async def setUp(self) -> None:
        """Post four messages of the reader and of somebody else."""
        await super().setUp()
        await self.post("q", 1, 2)
        await self.post("q", 3, 4, client=CONSUMER)

    async def test_integers(self) -> None:
        """An integer may have a sign and blanks around it."""
        for text in ("2", "%2B2", "%202%20", "02"):
            found = await self.listed("q", f"echo=true&limit={text}")
            self.assertEqual([1, 2], found, text)

    async def test_bad_integers(self) -> None:
        """Everything else is no integer."""
        bad = ["a", "1.5", "0x2", "1e1", "None", "%C2%BD", "2%002"]
        path = "/v2/queues/q/messages?limit="
        requests = [asking("GET", path + text) for text in bad]
        await self.refuses(400, "Invalid parameter", requests)

    async def test_booleans(self) -> None:
        """Yes and no have these spellings."""
        for text in ("true", "True", "t", "yes", "y", "1", "on"):
            found = await self.listed("q", f"echo={text}")
            self.assertEqual([1, 2, 3, 4], found, text)
        for text in ("false", "False", "f", "no", "n", "0", "off", ""):
            self.assertEqual([1, 2], await self.listed("q", f"echo={text}"), text)

    async def test_bad_booleans(self) -> None:
        """Every other spelling is refused."""
        bad = ["TRUE", "None", "foo", "2", "tr%75ex", "FALSE"]
        path = "/v2/queues/q/messages?"
        names = ("echo", "include_claimed", "include_delayed")
        requests = [asking("GET", f"{path}{n}={text}") for n in names for text in bad]
        requests += [asking("GET", f"/v2/queues?detailed={text}") for text in bad]
        requests += [asking("GET", f"/v2/queues?with_count={text}") for text in bad]
        await self.refuses(400, "Invalid parameter", requests)

    async def test_empty_values(self) -> None:
        """An empty parameter is as if it were not there."""
        for query in ("limit=", "limit", "limit=&marker=", "echo"):
            self.assertEqual([1, 2], await self.listed("q", query), query)

    async def test_last_one_wins(self) -> None:
        """Of several values of one parameter the last one counts."""
        for query in ("limit=2&limit=1", "limit=2,1", "limit=x,1"):
            self.assertEqual([1], await self.listed("q", query), query)

    async def test_unknown_parameters(self) -> None:
        """Unknown parameters mean nothing."""
        self.assertEqual([1, 2], await self.listed("q", "colour=red&limits=1"))

    async def test_unused_parameters(self) -> None:
        """A parameter that an operation does not use may be malformed."""
        paths = ["/v2/queues/q?limit=x", "/v2/queues/q/stats?limit=x&echo=foo"]
        await self.gives(200, [asking("GET", path) for path in paths])
