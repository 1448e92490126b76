"""Where notifications may go, and how URLs are read."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mqsvc.messaging.errors import InvalidRequest
from mqsvc.notification.guard import TargetGuard, TargetRefused, parse_networks
from mqsvc.notification.target import parse_target

exact = settings(deadline=None, derandomize=True)

REFUSED_IPV4 = (
    *("0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.127.255.255"),
    *("127.0.0.1", "127.255.255.254", "169.254.169.254", "172.16.0.1"),
    *("172.31.255.255", "192.168.1.1", "192.0.0.192", "192.0.2.1", "198.18.0.1"),
    *("198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1"),
    *("239.255.255.255", "240.0.0.1", "255.255.255.255", "168.63.129.16"),
    *("192.88.99.1", "100.100.100.200"),
)

PUBLIC_IPV4 = (
    *("1.1.1.1", "8.8.8.8", "93.184.215.14", "100.63.255.255", "100.128.0.0"),
    *("172.15.255.255", "172.32.0.0", "11.0.0.1", "223.255.255.255"),
)

REFUSED_IPV6 = (
    *("::", "::1", "fe80::1", "fec0::1", "fc00::1", "fd00:ec2::254", "ff02::1"),
    *("2001:db8::1", "3fff::1", "2001::1", "2001:10::1", "100::1", "4000::1"),
    *("64:ff9b:1::1", "::127.0.0.1", "5f00::1"),
)

PUBLIC_IPV6 = ("2606:4700:4700::1111", "2a00:1450:4001::1", "2001:4860:4860::8888")


def in_ipv6(address: IPv4Address) -> list[str]:
    """The IPv6 forms of an IPv4 address: mapped, NAT64, 6to4."""
    number = int(address)
    high, low = number >> 16, number & 0xFFFF
    return [
        f"::ffff:{address}",
        f"64:ff9b::{high:x}:{low:x}",
        f"2002:{high:x}:{low:x}::1",
    ]


def permits(address: str, *allowed: str, is_local: bool = False) -> bool:
    """Whether a notification may go to an address."""
    guard = TargetGuard(parse_networks(allowed), is_local)
    return guard.permits(ip_address(address))


class AddressTests(SynchronousTestCase):
    """Addresses as a connection sees them."""

    def test_refused(self) -> None:
        """What is not public is refused."""
        for text in (*REFUSED_IPV4, *REFUSED_IPV6):
            self.assertFalse(permits(text), text)

    def test_public(self) -> None:
        """What is public is not."""
        for text in (*PUBLIC_IPV4, *PUBLIC_IPV6):
            self.assertTrue(permits(text), text)

    def test_ipv4_inside_of_ipv6(self) -> None:
        """An IPv4 address stays what it is in each of its IPv6 forms."""
        for text in (*REFUSED_IPV4, *PUBLIC_IPV4):
            for form in in_ipv6(IPv4Address(text)):
                self.assertEqual(permits(text), permits(form), form)

    def test_scoped(self) -> None:
        """An address with a zone is judged without it."""
        self.assertFalse(permits("fe80::1%lo"))

    def test_local(self) -> None:
        """A service for this machine may call this machine, and no other."""
        for text in ("127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"):
            self.assertTrue(permits(text, is_local=True))
        for text in ("0.0.0.0", "::", "10.0.0.1", "169.254.169.254"):
            self.assertFalse(permits(text, is_local=True))

    def test_allowed(self) -> None:
        """The operator opens networks, in all forms of their addresses."""
        for text in ("10.1.2.3", *in_ipv6(IPv4Address("10.1.2.3"))):
            self.assertTrue(permits(text, "10.1.0.0/16"))
        self.assertTrue(permits("fd00::5", "10.0.0.0/8", "fd00::/8"))
        self.assertFalse(permits("10.2.0.1", "10.1.0.0/16"))

    @exact
    @given(st.ip_addresses())
    def test_against_the_library(self, address: IPv4Address) -> None:
        """Nothing passes that Python's own tables call private or local."""
        if permits(str(address)):
            inner = getattr(address, "ipv4_mapped", None) or address
            bad = (inner.is_private, inner.is_loopback, inner.is_link_local)
            self.assertFalse(any(bad) or inner.is_multicast or inner.is_unspecified)

    def test_refusal(self) -> None:
        """The refusal names the address and the option."""
        with self.assertRaises(TargetRefused) as caught:
            TargetGuard().permitted([ip_address("10.0.0.1")])
        self.assertIn("10.0.0.1", str(caught.exception))
        self.assertIn("notification.allowed_networks", str(caught.exception))

    def test_several(self) -> None:
        """Those that are permitted are left, and nothing is refused of nothing."""
        found = [ip_address("10.0.0.1"), ip_address("1.1.1.1")]
        self.assertEqual(found[1:], TargetGuard().permitted(found))
        self.assertEqual([], TargetGuard().permitted([]))

    def test_networks(self) -> None:
        """An option that is no network is named."""
        for text in ("10.0.0.0/33", "10.0.0.1/8", "here"):
            with self.assertRaises(ValueError) as caught:
                parse_networks([text])
            self.assertIn(text, str(caught.exception))


class TargetTests(SynchronousTestCase):
    """URLs and their parts."""

    def test_forms_of_addresses(self) -> None:
        """Each way to write an IPv4 address gives that address."""
        for host in (
            *("127.0.0.1", "127.1", "127.0.1", "2130706433", "0x7f000001"),
            *("0x7f.0.0.1", "0X7F.0x0.0x0.0x1", "0177.0.0.01", "017700000001"),
            *("127.0.0.1.", "%31%32%37.0.0.1", "\uff11\uff12\uff17.0.0.1"),
            *("①②⑦.⓪.⓪.①", "127。0。0。1"),
        ):
            target = parse_target(f"http://{host}/")
            self.assertEqual("127.0.0.1", target.host, host)
            self.assertEqual(IPv4Address("127.0.0.1"), target.address)

    def test_ipv6(self) -> None:
        """Addresses of version 6 are in brackets and get their short form."""
        target = parse_target("http://[0:0:0:0:0:FFFF:7f00:1]:81/x")
        assert isinstance(target.address, IPv6Address)
        self.assertEqual(IPv4Address("127.0.0.1"), target.address.ipv4_mapped)
        self.assertEqual(81, target.port)
        self.assertEqual("http://[2606:4700::1]:80", self.origin("[2606:4700:0::1]"))

    def origin(self, host: str) -> str:
        """The origin of a URL with a host."""
        return parse_target(f"http://{host}/").origin

    def test_names(self) -> None:
        """Names become lower-case ASCII without a dot at the end."""
        for host, wanted in (
            ("Example.ORG", "example.org"),
            ("example.org.", "example.org"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("\uff25xample.org", "example.org"),
            ("my_host", "my_host"),
        ):
            self.assertEqual(f"http://{wanted}:80", self.origin(host))

    def test_user_information(self) -> None:
        """What stands before an at sign is never the host."""
        target = parse_target("http://good.example:80@10.0.0.1/")
        self.assertEqual("10.0.0.1", target.host)
        self.assertNotIn("good", target.url)

    def test_kept(self) -> None:
        """A target that is needed again is there, unless it takes much memory."""
        for length, is_kept in ((100, True), (2000, True), (2001, False)):
            url = "http://a.example/".ljust(length, "x")
            target = parse_target(url)
            self.assertEqual(url, target.url)
            self.assertEqual(is_kept, parse_target(url) is target)

    def test_url(self) -> None:
        """What is asked for has no user information, fragment or default port."""
        for url, wanted in (
            ("HTTPS://u:p@Example.org:443/a?b#c", "https://example.org/a?b"),
            ("http://example.org", "http://example.org/"),
            ("http://example.org?x", "http://example.org/?x"),
            ("http://example.org:8080//a/../b", "http://example.org:8080//a/../b"),
            ("https://[::1]/", "https://[::1]/"),
        ):
            self.assertEqual(wanted, parse_target(url).url)

    def test_refused(self) -> None:
        """What cannot be read in one way only is refused; the URL is not repeated."""
        for url in (
            *("http:", "http://", "http:///x", "http://:80/", "ftp://a/", "a"),
            *("http://a b/", "http://a\t/", "http://a\n.b/", "http://a\\@b/"),
            *("http://a:0/", "http://a:65536/", "http://a:x/", "http://a:-1/"),
            *("http://[::1/", "http://[::1%25lo]/", "http://[::1%lo]/"),
            *(
                "http://[v1.fe80::1]/",
                "http://[fe80::1%251]/",
                "http://[1.2.3.4]/",
                "http://1.2.3.256/",
            ),
            *("http://4294967296/", "http://08.1.1.1/", "http://a..b/", "http://.a/"),
            *("http://a%00b/", "http://a%2fb/", "http://a%40b/", "http://*/"),
            *(f"http://{'a' * 64}/", f"http://{'a.' * 127}bc/", "http://\u2100/"),
            *("http://a,b/", "http://a'b/", "http://\u202eab/", "//a/", ""),
        ):
            with self.assertRaises(InvalidRequest, msg=url) as caught:
                parse_target(url)
            if len(url) > 7:
                self.assertNotIn(url[7:], str(caught.exception))

    @exact
    @given(st.text(max_size=30))
    def test_anything(self, text: str) -> None:
        """Any text is refused or becomes a URL that is read again as the same."""
        try:
            target = parse_target(f"http://{text}")
        except InvalidRequest:
            return
        again = parse_target(target.url)
        self.assertEqual((target.origin, target.rest), (again.origin, again.rest))
