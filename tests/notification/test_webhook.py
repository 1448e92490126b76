"""Webhooks, against a receiver on a real socket."""

from __future__ import annotations

import base64
import gzip
import hashlib
import hmac
import json
import os
import time
from email.utils import formatdate
from typing import Any, cast

import treq
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mqsvc.messaging.errors import InvalidRequest
from mqsvc.messaging.model import NewMessage
from mqsvc.notification import webhook as webhook_module
from mqsvc.notification.channel import Outcome, Verdict
from mqsvc.notification.payload import body_of, check_options, message_content
from mqsvc.notification.signature import secrets_of, signature_headers
from mqsvc.notification.target import parse_target
from tests.notification.names import Names, Outside
from tests.notification.notices import CONTENT, notice
from tests.notification.receiver import (
    OK,
    Certificate,
    Received,
    Receiver,
    Script,
    answer,
    resets,
    says,
    silent,
)

SECRET = "whsec_" + base64.b64encode(b"k" * 24).decode()
NEWER = "whsec_" + base64.b64encode(b"n" * 32).decode()


class WebhookCase(TestCase):
    """A receiver and what delivers to it."""

    timeout = 30

    async def outcome(
        self, *scripts: Script, path: str = "/hook", **options: Any
    ) -> Outcome:
        """What comes of one attempt at a receiver."""
        url = f"http://127.0.0.1:{self.listen(*scripts)}{path}"
        return await self.deliver(self.outside(), url, **options)

    def listen(self, *scripts: Script, tls: Any = None) -> int:
        """Start the receiver; gives its port."""
        self.receiver = receiver = Receiver(list(scripts))
        port = receiver.listen(tls=tls)
        self.addCleanup(lambda: Deferred.fromCoroutine(receiver.close()))
        return port

    def outside(self, **arguments: Any) -> Outside:
        """What delivers, closed at the end."""
        outside = Outside(**arguments)
        self.addCleanup(lambda: Deferred.fromCoroutine(outside.connections.close()))
        return outside

    async def deliver(self, outside: Outside, url: str, **options: Any) -> Outcome:
        """What comes of one attempt."""
        return await outside.webhook.deliver(notice(url, **options))

    @property
    def request(self) -> Received:
        """The only request that the receiver got."""
        [request] = self.receiver.requests
        return request


class RequestTests(WebhookCase):
    """What the receiver sees."""

    async def test_plain(self) -> None:
        """The body is the content, posted to the path as it was given."""
        outcome = await self.outcome(says(OK), path="/a%2Fb;c/ü?x=1&y=%20#part")
        self.assertEqual((Verdict.DELIVERED, 200), (outcome.verdict, outcome.status))
        self.assertEqual("POST /a%2Fb;c/%C3%BC?x=1&y=%20 HTTP/1.1", self.request.line)
        self.assertEqual(CONTENT, self.request.body)
        self.assertEqual("application/json", self.request.headers["content-type"])
        self.assertEqual("d-1", self.request.headers["webhook-id"])
        self.assertNotIn("webhook-signature", self.request.headers)
        self.assertNotIn("accept-encoding", self.request.headers)

    async def test_without_path(self) -> None:
        """A URL without a path means the root."""
        await self.outcome(says(OK), path="?a=1")
        self.assertEqual("POST /?a=1 HTTP/1.1", self.request.line)

    async def test_post_data(self) -> None:
        """The placeholder, quotes included, becomes the content wherever it stands."""
        post_data = '{"messages":[{"body":"$zaqar_message$"}],"n":"$zaqar_message$"}'
        await self.outcome(says(OK), post_data=post_data)
        told = json.loads(CONTENT)
        self.assertEqual(
            {"messages": [{"body": told}], "n": told}, json.loads(self.request.body)
        )

    async def test_post_headers(self) -> None:
        """Headers of the subscription are added, and replace the content type."""
        headers = {"X-Auth-Token": "t", "content-type": "text/x", "X-Wide": "ü"}
        await self.outcome(says(OK), post_headers=headers)
        sent = self.request.headers
        self.assertEqual(("t", "text/x"), (sent["x-auth-token"], sent["content-type"]))
        self.assertEqual("ü", sent["x-wide"])

    async def test_user_information(self) -> None:
        """A user and password in the URL become a header and not part of the host."""
        port = self.listen(says(OK))
        url = f"http://ann:p%40ss@127.0.0.1:{port}/"
        await self.deliver(self.outside(), url)
        self.assertEqual(f"127.0.0.1:{port}", self.request.headers["host"])
        wanted = base64.b64encode(b"ann:p@ss").decode()
        self.assertEqual(f"Basic {wanted}", self.request.headers["authorization"])

    async def test_signatures(self) -> None:
        """Each secret signs id, moment and body as sent."""
        secrets = [SECRET, NEWER]
        await self.outcome(says(OK), post_data="ü", signing_secrets=secrets)
        sent = self.request.headers
        moment = sent["webhook-timestamp"]
        self.assertLess(abs(int(moment) - time.time()), 60)
        text = b"d-1." + moment.encode() + b"." + self.request.body
        marks = [
            base64.b64encode(hmac.new(key, text, hashlib.sha256).digest()).decode()
            for key in (b"k" * 24, b"n" * 32)
        ]
        wanted = " ".join(f"v1,{mark}" for mark in marks)
        self.assertEqual(wanted, sent["webhook-signature"])

    async def test_no_proxy(self) -> None:
        """Proxies that the environment names are not used."""
        self.patch(webhook_module, "ATTEMPT_SECONDS", 5)
        for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
            self.patch_environment(name, "http://127.0.0.1:9")
        outcome = await self.outcome(says(OK))
        self.assertEqual(Verdict.DELIVERED, outcome.verdict)

    def patch_environment(self, name: str, value: str) -> None:
        """Set a variable until the end of the test."""
        before = os.environ.get(name)
        os.environ[name] = value
        if before is None:
            self.addCleanup(os.environ.pop, name)
        else:
            self.addCleanup(os.environ.__setitem__, name, before)

    async def test_no_cookies(self) -> None:
        """A cookie is not given back, neither by the same tenant nor by another."""
        port = self.listen(says(answer(200, "Set-Cookie: tracked=1")))
        outside = self.outside()
        for _ in range(2):
            await self.deliver(outside, f"http://127.0.0.1:{port}/")
        self.assertEqual(2, len(self.receiver.requests))
        for request in self.receiver.requests:
            self.assertNotIn("cookie", request.headers)


class AnswerTests(WebhookCase):
    """What an answer means."""

    async def test_success(self) -> None:
        """Every status from 200 to 299 means delivered."""
        for status in (200, 201, 202, 204, 299):
            outcome = await self.outcome(says(answer(status)))
            self.assertEqual(
                (Verdict.DELIVERED, status, ""),
                (outcome.verdict, outcome.status, outcome.error),
            )

    async def test_temporary(self) -> None:
        """A broken or busy receiver is tried again."""
        for status in (500, 502, 503, 599, 600, 408, 425, 429):
            outcome = await self.outcome(says(answer(status)))
            self.assertEqual((Verdict.RETRY, status), (outcome.verdict, outcome.status))
            self.assertEqual(f"the receiver answers {status}", outcome.error)
            self.assertIsNone(outcome.retry_after)

    async def test_for_good(self) -> None:
        """A receiver that does not want this request is not asked again."""
        for status in (400, 401, 403, 404, 413, 422):
            outcome = await self.outcome(says(answer(status)))
            self.assertEqual(
                (Verdict.REFUSED, status), (outcome.verdict, outcome.status)
            )

    async def test_gone(self) -> None:
        """410 ends the subscription."""
        outcome = await self.outcome(says(answer(410)))
        self.assertEqual(Verdict.GONE, outcome.verdict)

    async def test_redirect(self) -> None:
        """A redirect is not followed."""
        second = Receiver([says(OK)])
        port = second.listen()
        self.addCleanup(lambda: Deferred.fromCoroutine(second.close()))
        location = f"Location: http://127.0.0.1:{port}/"
        for status in (301, 302, 303, 307, 308):
            outcome = await self.outcome(says(answer(status, location)))
            self.assertEqual(Verdict.REFUSED, outcome.verdict)
            self.assertIn("redirects are not followed", outcome.error)
        self.assertEqual(0, second.connections)

    async def test_retry_after_seconds(self) -> None:
        """A receiver can name the seconds until the next attempt."""
        for status in (429, 503):
            outcome = await self.outcome(says(answer(status, "Retry-After: 120")))
            self.assertEqual(120, outcome.retry_after)

    async def test_retry_after_date(self) -> None:
        """It can name the moment, too; one that is over means now."""
        for offset, wanted in ((600, 600), (-600, 0)):
            header = f"Retry-After: {formatdate(time.time() + offset, usegmt=True)}"
            outcome = await self.outcome(says(answer(503, header)))
            self.assertIn(outcome.retry_after, range(max(0, wanted - 60), wanted + 60))

    async def test_retry_after_without_zone(self) -> None:
        """A date without a zone is one in UTC, wherever the server is."""
        stamp = time.strftime("%a, %d %b %Y %H:%M:%S -0000", time.gmtime(2**31))
        outcome = await self.outcome(says(answer(503, f"Retry-After: {stamp}")))
        assert outcome.retry_after is not None
        self.assertLess(abs(2**31 - time.time() - outcome.retry_after), 60)

    async def test_retry_after_nonsense(self) -> None:
        """What is neither is not heeded."""
        for text in ("soon", "-5", "1.5", "", "9" * 40, "²"):
            outcome = await self.outcome(says(answer(503, f"Retry-After: {text}")))
            self.assertIsNone(outcome.retry_after)

    async def test_no_http(self) -> None:
        """What does not speak HTTP may do so later."""
        outcome = await self.outcome(says(b"220 mail ready\r\n\r\n"))
        self.assertEqual(Verdict.RETRY, outcome.verdict)

    async def test_duration(self) -> None:
        """The outcome says how long the attempt took."""
        outcome = await self.outcome(says(OK))
        self.assertGreater(outcome.duration, 0)


class TroubleTests(WebhookCase):
    """Receivers that do not answer as they should."""

    async def test_nobody_listens(self) -> None:
        """A refused connection is tried again later."""
        port = self.listen(says(OK))
        await self.receiver.close()
        self.listen(says(OK))
        outcome = await self.deliver(self.outside(), f"http://127.0.0.1:{port}/")
        self.assertEqual(Verdict.RETRY, outcome.verdict)
        self.assertIn("ConnectionRefusedError", outcome.error)

    async def test_unknown_name(self) -> None:
        """A name that is not known may be known later."""
        outcome = await self.deliver(self.outside(), "http://nobody.example/")
        self.assertEqual(Verdict.RETRY, outcome.verdict)
        self.assertIn("name of the host is not known", outcome.error)

    async def test_reset(self) -> None:
        """A connection that is cut on the first request is a failed attempt."""
        outcome = await self.outcome(resets)
        self.assertEqual(Verdict.RETRY, outcome.verdict)
        self.assertEqual(1, self.receiver.connections)

    async def test_silence(self) -> None:
        """A receiver that never answers is left when the time is over."""
        self.patch(webhook_module, "ATTEMPT_SECONDS", 0.05)
        outcome = await self.outcome(silent)
        self.assertEqual(Verdict.RETRY, outcome.verdict)
        self.assertIn("no answer within", outcome.error)
        await self.receiver.all_closed()

    async def test_cancelled(self) -> None:
        """Who gives up an attempt closes its connection."""
        asked: Deferred[None] = Deferred()
        port = self.listen(lambda connection: asked.callback(None))
        outside = self.outside()
        attempt = Deferred.fromCoroutine(
            self.deliver(outside, f"http://127.0.0.1:{port}/")
        )
        await asked
        attempt.cancel()
        with self.assertRaises(CancelledError):
            await attempt
        await self.receiver.all_closed()

    async def test_cancelled_early(self) -> None:
        """So does who gives up before there is one."""
        port = self.listen(says(OK))
        attempt = Deferred.fromCoroutine(
            self.deliver(self.outside(), f"http://127.0.0.1:{port}/")
        )
        attempt.cancel()
        with self.assertRaises(CancelledError):
            await attempt
        self.assertEqual([], self.receiver.requests)

    async def test_endless_body(self) -> None:
        """A body without an end is cut off, and the status counts."""
        self.patch(webhook_module, "BODY_SECONDS", 3600)
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n"
        outcome = await self.outcome(says(head + b"x" * 100_000))
        self.assertEqual(Verdict.DELIVERED, outcome.verdict)
        await self.receiver.all_closed()

    async def test_slow_body(self) -> None:
        """A body that does not come is not waited for for long."""
        self.patch(webhook_module, "BODY_SECONDS", 0.05)
        head = b"HTTP/1.1 503 Busy\r\nContent-Length: 10\r\n\r\nabc"
        outcome = await self.outcome(says(head))
        self.assertEqual((Verdict.RETRY, 503), (outcome.verdict, outcome.status))
        await self.receiver.all_closed()

    async def test_compressed_body(self) -> None:
        """A compressed body is not unpacked, so that it cannot fill the memory."""
        packed = gzip.compress(b"0" * 1000)
        port = self.listen(says(answer(200, "Content-Encoding: gzip", body=packed)))
        target = parse_target(f"http://127.0.0.1:{port}/")
        client = self.outside().connections.client(target)
        response = await client.post({}, b"")
        self.assertEqual(packed, await treq.content(cast(Any, response)))


class ReuseTests(WebhookCase):
    """Connections that are kept open."""

    async def test_reused(self) -> None:
        """The next notification to a host goes over the same connection."""
        port = self.listen(says(OK))
        outside = self.outside()
        for path in "abc":
            await self.deliver(outside, f"http://127.0.0.1:{port}/{path}")
        self.assertEqual([1, 1, 1], [r.connection for r in self.receiver.requests])

    async def test_quiet(self) -> None:
        """The log says nothing of each connection, with TLS neither."""
        heard: list[Any] = []
        globalLogPublisher.addObserver(heard.append)
        self.addCleanup(globalLogPublisher.removeObserver, heard.append)
        certificate = Certificate("127.0.0.1")
        for scheme, tls in (("http", None), ("https", certificate.server_options())):
            port = self.listen(says(OK), tls=tls)
            outside = self.outside(trust=certificate.trust())
            outcome = await self.deliver(outside, f"{scheme}://127.0.0.1:{port}/")
            self.assertEqual(200, outcome.status, outcome)
            await outside.connections.close()
        told = [event["factory"] for event in heard if "factory" in event]
        self.assertEqual([], told)

    async def test_closed_meanwhile(self) -> None:
        """A kept connection that dies when it is used again is no failure."""
        port = self.listen(says(OK), resets, says(OK))
        outside = self.outside()
        for _ in range(2):
            outcome = await self.deliver(outside, f"http://127.0.0.1:{port}/")
            self.assertEqual(Verdict.DELIVERED, outcome.verdict)
        self.assertEqual([1, 1, 2], [r.connection for r in self.receiver.requests])

    async def test_all_closed_meanwhile(self) -> None:
        """Not for ever, if a receiver closes each kept connection that is used."""
        self.patch(webhook_module, "MOST_STALE", 1)
        port = self.listen(says(OK), resets)
        outside = self.outside()
        for verdict in (Verdict.DELIVERED, Verdict.RETRY):
            outcome = await self.deliver(outside, f"http://127.0.0.1:{port}/")
            self.assertEqual(verdict, outcome.verdict)
        self.assertEqual(2, len(self.receiver.requests))

    async def test_closed(self) -> None:
        """Closing leaves no connection behind."""
        port = self.listen(says(OK))
        outside = self.outside()
        await self.deliver(outside, f"http://127.0.0.1:{port}/")
        await outside.connections.close()
        await self.receiver.all_closed()


class GuardedTests(WebhookCase):
    """Where a connection may go to."""

    async def test_loopback(self) -> None:
        """The machine itself gets nothing unless it is open."""
        port = self.listen(says(OK))
        outside = self.outside(is_local=False)
        outcome = await self.deliver(outside, f"http://127.0.0.1:{port}/")
        self.assertEqual(Verdict.REFUSED, outcome.verdict)
        self.assertIn("notification.allowed_networks", outcome.error)
        self.assertEqual(0, self.receiver.connections)

    async def test_allowed_network(self) -> None:
        """The operator can open a network."""
        port = self.listen(says(OK))
        outside = self.outside(is_local=False, allowed=["127.0.0.0/8"])
        outcome = await self.deliver(outside, f"http://127.0.0.1:{port}/")
        self.assertEqual(Verdict.DELIVERED, outcome.verdict)

    async def test_ipv6(self) -> None:
        """Addresses of version 6 are reached, and guarded alike."""
        self.receiver = receiver = Receiver([says(OK)])
        port = receiver.listen(interface="::1")
        self.addCleanup(lambda: Deferred.fromCoroutine(receiver.close()))
        url = f"http://[::1]:{port}/"
        outcome = await self.deliver(self.outside(), url)
        self.assertEqual(Verdict.DELIVERED, outcome.verdict)
        self.assertEqual(f"[::1]:{port}", self.request.headers["host"])
        outcome = await self.deliver(self.outside(is_local=False), url)
        self.assertEqual(Verdict.REFUSED, outcome.verdict)

    async def test_rebinding(self) -> None:
        """A name that leads to the machine itself only later is refused then."""
        port = self.listen(says(OK))
        names = Names(**{"evil.example": [["93.184.215.14"], ["127.0.0.1"]]})
        outside = self.outside(names=names, is_local=False)
        url = f"http://evil.example:{port}/"
        await outside.webhook.check(url, {})
        outcome = await self.deliver(outside, url)
        self.assertEqual(Verdict.RETRY, outcome.verdict)
        self.assertIn("notification.allowed_networks", outcome.error)
        self.assertEqual(0, self.receiver.connections)

    async def test_resolved_once(self) -> None:
        """The address that was checked is the one that is connected to."""
        port = self.listen(says(OK))
        names = Names(**{"good.example": [["127.0.0.1"], ["192.0.2.1"]]})
        outside = self.outside(names=names)
        outcome = await self.deliver(outside, f"http://good.example:{port}/")
        self.assertEqual(Verdict.DELIVERED, outcome.verdict)
        self.assertEqual(["good.example"], names.asked)
        self.assertEqual(f"good.example:{port}", self.request.headers["host"])

    async def test_mixed(self) -> None:
        """Of several addresses only those that are permitted are connected to."""
        port = self.listen(says(OK))
        names = Names(**{"mixed.example": [["10.0.0.1", "127.0.0.1"]]})
        outcome = await self.deliver(
            self.outside(names=names), f"http://mixed.example:{port}/"
        )
        self.assertEqual(Verdict.DELIVERED, outcome.verdict)

    async def test_next_address(self) -> None:
        """Where one address does not answer the next one is tried."""
        port = self.listen(says(OK))
        names = Names(**{"two.example": [["127.0.0.2", "127.0.0.1"]]})
        outcome = await self.deliver(
            self.outside(names=names), f"http://two.example:{port}/"
        )
        self.assertEqual(Verdict.DELIVERED, outcome.verdict)

    async def test_odd_forms(self) -> None:
        """However an address is written, it is refused or is the address."""
        port = self.listen(says(OK))
        for host in ("2130706433", "0x7f.1", "0177.0.0.1", "127.1", "127.0.0.1."):
            outcome = await self.deliver(
                self.outside(is_local=False), f"http://{host}:{port}/"
            )
            self.assertEqual(Verdict.REFUSED, outcome.verdict)
            outcome = await self.deliver(self.outside(), f"http://{host}:{port}/")
            self.assertEqual(Verdict.DELIVERED, outcome.verdict)


class TLSTests(WebhookCase):
    """Receivers with certificates."""

    async def over_tls(self, host: str, certified: str, is_trusted: bool) -> Outcome:
        """What comes of an attempt at a host that shows a certificate for a name."""
        certificate = Certificate(certified)
        port = self.listen(says(OK), tls=certificate.server_options())
        trust = certificate.trust() if is_trusted else Certificate("other").trust()
        names = Names(**{"good.example": [["127.0.0.1"]]})
        outside = self.outside(names=names, trust=trust)
        return await self.deliver(outside, f"https://{host}:{port}/")

    async def test_name(self) -> None:
        """The certificate is verified against the name, not the checked address."""
        outcome = await self.over_tls("good.example", "good.example", True)
        self.assertEqual(Verdict.DELIVERED, outcome.verdict)

    async def test_address(self) -> None:
        """A certificate can be for an address."""
        outcome = await self.over_tls("127.0.0.1", "127.0.0.1", True)
        self.assertEqual(Verdict.DELIVERED, outcome.verdict)

    async def test_other_name(self) -> None:
        """A certificate for another name is no good."""
        outcome = await self.over_tls("good.example", "127.0.0.1", True)
        self.assertEqual(Verdict.RETRY, outcome.verdict)
        self.assertEqual([], self.receiver.requests)

    async def test_self_signed(self) -> None:
        """A certificate that nobody vouches for is no good."""
        outcome = await self.over_tls("good.example", "good.example", False)
        self.assertEqual(Verdict.RETRY, outcome.verdict)
        self.assertEqual([], self.receiver.requests)


class CheckTests(WebhookCase):
    """What is refused when a subscription is made."""

    async def refusal(self, url: str, outside: Outside, **options: Any) -> str:
        """The text of a refusal."""
        with self.assertRaises(InvalidRequest) as caught:
            await outside.webhook.check(url, options)
        return str(caught.exception)

    async def test_addresses(self) -> None:
        """An address that is not public is refused, and so is a name for it."""
        names = Names(**{"inside.example": [["10.1.2.3"]]})
        outside = self.outside(names=names, is_local=False)
        for url in ("http://169.254.169.254/latest", "http://inside.example/"):
            text = await self.refusal(url, outside)
            self.assertIn("notification.allowed_networks", text)

    async def test_unknown_name(self) -> None:
        """A name that is not known yet is accepted."""
        await self.outside().webhook.check("https://later.example/hook", {})

    async def test_name_server_away(self) -> None:
        """A name server that does not answer holds nobody up for long."""
        clock = Clock()

        class Away(Names):
            def addresses_of(self, name: str) -> Deferred[Any]:
                """Never answer."""
                return Deferred()

        outside = self.outside(names=Away(), clock=clock)
        checked = Deferred.fromCoroutine(
            outside.webhook.check("https://slow.example/", {})
        )
        self.assertNoResult(checked)
        clock.advance(5)
        await checked
        delivering = self.deliver(outside, "https://slow.example/")
        outcome = Deferred.fromCoroutine(delivering)
        clock.advance(5)
        self.assertEqual(Verdict.RETRY, (await outcome).verdict)
        self.assertIn("the name server did not answer", (await outcome).error)

    async def test_options(self) -> None:
        """Options that could not be sent are refused, without showing secrets."""
        outside = self.outside()
        for options, text in (
            ({"post_data": 5}, "'options.post_data' must be a string."),
            ({"post_headers": {"Host": "x"}}, "must not set 'Host'"),
            ({"post_headers": {"Webhook-Signature": "x"}}, "must not set"),
            ({"post_headers": {"Content-Length": "1"}}, "must not set"),
            ({"post_headers": {"a b": "x"}}, "a name that is no header's"),
            ({"post_headers": {"X": "a\r\nY: b"}}, "without line breaks"),
            ({"post_headers": {"X": 1}}, "must be a string"),
            ({"post_headers": []}, "'options.post_headers' must be"),
            ({"post_headers": {f"X{n}": "" for n in range(51)}}, "at most 50"),
            ({"signing_secrets": "whsec_x"}, "must be an array"),
            ({"signing_secrets": [SECRET] * 3}, "at most 2"),
            ({"signing_secrets": ["whsec_c2hvcnQ="]}, "24 to 64 bytes"),
            ({"signing_secrets": [SECRET.removeprefix("whsec_")]}, "'whsec_'"),
            ({"signing_secrets": [5]}, "'whsec_'"),
            ({"signing_secrets": ["whsec_" + "a" * 33]}, "Base64"),
        ):
            refusal = await self.refusal("https://a.example/", outside, **options)
            self.assertIn(text, refusal)

    async def test_kept_before(self) -> None:
        """Options that slipped in earlier end the delivery, without a request."""
        outcome = await self.outcome(says(OK), post_headers={"X": "a\nb"})
        self.assertEqual(Verdict.REFUSED, outcome.verdict)
        self.assertEqual([], self.receiver.requests)


class PayloadTests(SynchronousTestCase):
    """What is told of a message."""

    def test_content(self) -> None:
        """Ttl, body as posted, type and queue, and nothing else."""
        message = NewMessage(b'{"x": 1}', 300)
        self.assertEqual(
            b'{"ttl":300,"body":{"x": 1},'
            b'"Message_Type":"Notification","queue_name":"nq"}',
            message_content("nq", message),
        )

    def test_delay(self) -> None:
        """A delay is told where it is heeded."""
        message = NewMessage(b"1", 300, delay=7)
        told = json.loads(message_content("nq", message, is_delay_shown=True))
        self.assertEqual(7, told["delay"])

    def test_no_quotes(self) -> None:
        """Without its quotes the placeholder is plain text."""
        post_data = "$zaqar_message$ '$zaqar_message$'"
        body = body_of({"post_data": post_data}, b"{}")
        self.assertEqual(post_data.encode(), body)

    def test_content_is_not_searched(self) -> None:
        """A placeholder inside of a message stays what it is."""
        content = b'{"body":"$zaqar_message$"}'
        body = body_of({"post_data": '["$zaqar_message$"]'}, content)
        self.assertEqual(b"[" + content + b"]", body)

    def test_nothing_given(self) -> None:
        """Empty and missing options are as good as none."""
        for options in ({}, {"post_data": ""}, {"post_data": None}):
            check_options(options)
            self.assertEqual(b"{}", body_of(options, b"{}"))


class SignatureTests(SynchronousTestCase):
    """Signatures by the specification."""

    def test_published_example(self) -> None:
        """The values that the specification's own libraries are tested with."""
        secrets = secrets_of(
            {"signing_secrets": ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]}
        )
        headers = signature_headers(
            secrets,
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1614265330,
            b'{"test": 2432232314}',
        )
        self.assertEqual(
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
            headers["webhook-signature"],
        )
