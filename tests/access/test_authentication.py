"""Tokens kept in a file."""

from __future__ import annotations

import hashlib
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mqsvc.access.authentication import Identity, TokenFile, TokenFileError, read_tokens
from mqsvc.messaging.errors import NotAuthenticated


def digest(token: str) -> str:
    """What the file keeps of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


class TokenFileTests(SynchronousTestCase):
    """Reading the file and asking it."""

    def setUp(self) -> None:
        """Choose a place for the file."""
        self.path = Path(self.mktemp())

    def read(self, text: str) -> TokenFile:
        """What a file with this text is read as."""
        self.path.write_text(text, encoding="utf-8")
        return read_tokens(str(self.path))

    def test_known(self) -> None:
        """A token stands for the project and roles beside its digest."""
        tokens = self.read(
            f'[tokens.reports]\nsha256 = "{digest("a")}"\nproject = "shop"\n'
            f'roles = ["Reader"]\n[tokens.shop]\nsha256 = "{digest("b").upper()}"\n'
            'project = "shop"\n'
        )
        found = self.successResultOf(self.ask(tokens, "a"))
        self.assertEqual(found, Identity("shop", "reports", frozenset({"reader"})))
        found = self.successResultOf(self.ask(tokens, "b"))
        self.assertEqual(found, Identity("shop", "shop", frozenset()))

    def test_unknown(self) -> None:
        """Other tokens stand for nobody, digests among them."""
        tokens = self.read(f'[tokens.x]\nsha256 = "{digest("a")}"\nproject = "p"\n')
        for token in ("", "b", digest("a"), "ä", "\ud800"):
            self.failureResultOf(self.ask(tokens, token), NotAuthenticated)

    def test_broken(self) -> None:
        """A file of another form is refused in one line without any digest."""
        whole = f'[tokens.x]\nsha256 = "{digest("a")}"\nproject = "p"\n'
        for text in (
            *("", "x", "tokens = 5", "[tokens.x]", whole + "unknown = 1\n"),
            whole.replace(digest("a"), digest("a")[1:]),
            whole.replace('"p"', '""'),
            whole + whole.replace("tokens.x", "tokens.y"),
        ):
            error = self.assertRaises(TokenFileError, self.read, text)
            self.assertIn(str(self.path), str(error))
            self.assertNotIn("\n", str(error))
            self.assertNotIn(digest("a")[1:], str(error))

    def test_missing(self) -> None:
        """A file that is not there is refused."""
        self.assertRaises(TokenFileError, read_tokens, "/nonexistent/tokens.toml")

    def ask(self, tokens: TokenFile, token: str) -> Deferred[Identity]:
        """Whose a token is, as a Deferred."""
        return Deferred.fromCoroutine(tokens.identify(token))
