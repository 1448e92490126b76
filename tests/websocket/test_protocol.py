"""The protocol of RFC 6455, byte by byte: what is taken, and what ends a connection.

Every connection is a protocol of the service on a transport in memory.
"""

from __future__ import annotations

import zlib
from typing import Any, ClassVar

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from mqsvc.websocket.whole_frames import read_whole
from tests.websocket.server import WebSocketTestCase

MASK = b"\x01\xfe\x7f\x80"
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
MOST = 5000
"""Bytes of a message, here."""

HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


def masked(payload: bytes, mask: bytes = MASK) -> bytes:
    """Bytes under a mask, and back, the slow way."""
    return bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))


def length(size: int, mark: int = 0x80) -> bytes:
    """The shortest way to say a length, with the bit that says whether it is masked."""
    if size < 126:
        return bytes((mark | size,))
    if size < 65536:
        return bytes((mark | 126,)) + size.to_bytes(2, "big")
    return bytes((mark | 127,)) + size.to_bytes(8, "big")


def frame(
    opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0
) -> bytes:
    """A frame as a client sends it."""
    first = bytes((fin << 7 | rsv << 4 | opcode,))
    return first + length(len(payload)) + MASK + masked(payload)


def frames(data: bytes) -> list[tuple[int, bytes]]:
    """First byte and payload of each frame that a server sent."""
    found = []
    while data:
        size, begin = data[1], 2
        if size == 126:
            size, begin = int.from_bytes(data[2:4], "big"), 4
        found.append((data[0], data[begin : begin + size]))
        data = data[begin + size :]
    return found


class Wire(StringTransport):
    """A transport that, as real ones do, lets a producer be taken away twice."""

    def unregisterProducer(self) -> None:
        """There is no producer any more."""
        self.producer = None


class ProtocolTestCase(WebSocketTestCase):
    """Connections in memory; what reaches the service is kept, and not answered."""

    options: ClassVar[dict[str, Any]] = {"max_message_size": MOST}

    def open(self, *headers: bytes) -> Wire:
        """A transport on which the handshake is over."""
        transport = Wire()
        connection = self.factory.buildProtocol(None)
        connection.makeConnection(transport)
        request = HANDSHAKE + b"".join(header + b"\r\n" for header in headers) + b"\r\n"
        connection.dataReceived(request)
        self.assertIn(b" 101 ", transport.value())
        transport.clear()
        self.taken: list[tuple[bytes, bool]] = []
        connection.onMessage = lambda *message: self.taken.append(message)
        transport.protocol = connection
        self.addCleanup(connection.connectionLost, Failure(ConnectionDone()))
        return transport

    def answer(self, *parts: bytes, headers: tuple[bytes, ...] = ()) -> Any:
        """The frames that come back for what is sent in some parts."""
        transport = self.open(*headers)
        for part in parts:
            transport.protocol.dataReceived(part)
        return frames(transport.value())

    def assert_closes(self, code: int, *parts: bytes, **options: Any) -> None:
        """What is sent ends the connection with a code."""
        answered = self.answer(*parts, **options)
        self.assertEqual(1, len(answered), parts)
        first, payload = answered[0]
        self.assertEqual(
            (0x88, code), (first, int.from_bytes(payload[:2], "big")), parts
        )


class MessageTests(ProtocolTestCase):
    """What is a message."""

    def test_lengths(self) -> None:
        """Messages of all lengths are taken, whole and byte by byte."""
        for size in (0, 1, 3, 4, 5, 125, 126, 127, MOST):
            for opcode in (TEXT, BINARY):
                payload = (b"\xc3\xa9x7" * size)[: size - size % 4] + b"y" * (size % 4)
                whole = frame(opcode, payload)
                for parts in ([whole], [whole[n : n + 1] for n in range(len(whole))]):
                    self.assertEqual([], self.answer(*parts))
                    self.assertEqual([(payload, opcode == BINARY)], self.taken)

    def test_any_cut(self) -> None:
        """Several messages arrive in their order, wherever what was sent is cut."""
        payloads = [b"a", b"b" * 130, b"", "ü".encode(), b"c" * 3]
        stream = b"".join(frame(TEXT, payload) for payload in payloads)
        for cut in range(len(stream) + 1):
            self.assertEqual([], self.answer(stream[:cut], stream[cut:]))
            self.assertEqual([(payload, False) for payload in payloads], self.taken)

    def test_fragments(self) -> None:
        """Messages in several frames are put together, also amid a letter."""
        pieces = [b"sch", b"", b"\xc3", b"\xb6n", b"!"]
        for opcode in (TEXT, BINARY):
            stream = frame(opcode, pieces[0], fin=False)
            for piece in pieces[1:-1]:
                stream += frame(CONTINUATION, piece, fin=False)
            stream += frame(CONTINUATION, pieces[-1]) + frame(TEXT, b"next")
            self.assertEqual([], self.answer(stream))
            whole = (b"".join(pieces), opcode == BINARY)
            self.assertEqual([whole, (b"next", False)], self.taken)

    def test_control_frames_in_between(self) -> None:
        """Pings between the frames of a message are answered at once."""
        stream = frame(TEXT, b"a", fin=False) + frame(PING, b"1")
        stream += frame(CONTINUATION, b"b", fin=False) + frame(PING) + frame(PONG, b"?")
        answered = self.answer(stream + frame(CONTINUATION, b"c"))
        self.assertEqual([(0x8A, b"1"), (0x8A, b"")], answered)
        self.assertEqual([(b"abc", False)], self.taken)

    def test_pings(self) -> None:
        """Pings of all lengths are answered with what they bring."""
        for size in (0, 1, 125):
            self.assertEqual(
                [(0x8A, b"\xff" * size)], self.answer(frame(PING, b"\xff" * size))
            )

    def test_compressed(self) -> None:
        """Compressed messages are taken beside others, where that was agreed."""
        deflate = zlib.compressobj(wbits=-15)
        packed = (deflate.compress(b"x" * 4000) + deflate.flush(zlib.Z_SYNC_FLUSH))[:-4]
        stream = frame(TEXT, b"a") + frame(TEXT, packed, rsv=4) + frame(TEXT, b"b")
        offer = b"Sec-WebSocket-Extensions: permessage-deflate"
        self.assertEqual([], self.answer(stream, headers=(offer,)))
        self.assertEqual([b"a", b"x" * 4000, b"b"], [text for text, _ in self.taken])

    def test_nothing_after_the_end(self) -> None:
        """What comes behind a closing frame, or behind a mistake, is not looked at."""
        for last in (frame(CLOSE, b"\x03\xe8"), frame(3), frame(TEXT, b"\xff")):
            stream = frame(TEXT, b"a") + last + frame(TEXT, b"b")
            self.assertEqual(1, len(self.answer(stream)))
            self.assertEqual([(b"a", False)], self.taken)


class ViolationTests(ProtocolTestCase):
    """What ends a connection, and with which code."""

    def test_reserved(self) -> None:
        """Reserved bits and kinds of frames are against the protocol."""
        for rsv in (1, 2, 4, 7):
            for opcode in (TEXT, BINARY, PING, CLOSE):
                self.assert_closes(1002, frame(opcode, b"", rsv=rsv))
        for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
            self.assert_closes(1002, frame(opcode, b"x"))

    def test_masks(self) -> None:
        """A client has to mask its frames."""
        for opcode in (TEXT, BINARY, PING, CLOSE):
            self.assert_closes(1002, bytes((0x80 | opcode, 2)) + b"hi")

    def test_control_frames(self) -> None:
        """Control frames are short and whole."""
        for opcode in (CLOSE, PING, PONG):
            self.assert_closes(1002, frame(opcode, b"x" * 126))
            self.assert_closes(1002, frame(opcode, b"xx", fin=False))

    def test_order_of_fragments(self) -> None:
        """A continuation needs a beginning, and no other message comes in between."""
        begun = frame(TEXT, b"a", fin=False)
        self.assert_closes(1002, frame(CONTINUATION, b"a"))
        self.assert_closes(1002, frame(CONTINUATION, b"a", fin=False))
        for opcode in (TEXT, BINARY):
            self.assert_closes(1002, begun + frame(opcode, b"b"))
            self.assert_closes(1002, begun, frame(opcode, b"b", fin=False))
        self.assertEqual([], self.taken)

    def test_lengths(self) -> None:
        """A length is said in the shortest way, and is no negative number."""
        for said in (b"\xfe\x00\x05", b"\xff" + b"\x00" * 7 + b"\x05"):
            self.assert_closes(1002, b"\x81" + said + MASK + masked(b"hello"))
        self.assert_closes(1002, b"\x81\xff\x80" + b"\x00" * 7 + MASK)

    def test_text(self) -> None:
        """Text is UTF-8, whether it comes whole or in parts."""
        for text in (
            *(
                b"\xff",
                b"\xc0\x80",
                b"\xed\xa0\x80",
                b"\xf4\x90\x80\x80",
                b"ok\xe2\x82",
            ),
            *(b"\xf8\x88\x80\x80\x80", b"\x80"),
        ):
            self.assert_closes(1007, frame(TEXT, text))
            stream = frame(TEXT, text[:1], fin=False) + frame(CONTINUATION, text[1:])
            self.assert_closes(1007, stream)
            self.assertEqual([], self.answer(frame(BINARY, text)))

    def test_too_large(self) -> None:
        """A message beyond the bound is refused by its length, before it has come."""
        for size in (MOST + 1, 65535, 65536, 2**40):
            self.assert_closes(1009, b"\x82" + length(size) + MASK)
        half = b"x" * (MOST // 2 + 1)
        stream = frame(TEXT, half, fin=False) + frame(CONTINUATION, half)
        self.assert_closes(1009, stream)

    def test_compression_that_was_not_agreed(self) -> None:
        """Where compression was agreed, only the beginning of a message says so."""
        offer = (b"Sec-WebSocket-Extensions: permessage-deflate",)
        begun = frame(TEXT, b"\xf2", fin=False, rsv=4)
        for stream in (
            begun + frame(CONTINUATION, b"H", rsv=4),
            frame(PING, b"", rsv=4),
        ):
            self.assert_closes(1002, stream, headers=offer)
        self.assert_closes(1007, frame(TEXT, b"\xff" * 9, rsv=4), headers=offer)


class CloseTests(ProtocolTestCase):
    """How a client closes."""

    def test_answered(self) -> None:
        """A close is answered with one, whatever code and reason it has."""
        for payload in (
            *(b"", b"\x03\xe8", b"\x03\xe8bye", b"\x03\xf3" + "ü".encode() * 61),
            *(code.to_bytes(2, "big") for code in (1001, 1011, 3000, 4999)),
        ):
            self.assert_closes(1000, frame(CLOSE, payload))

    def test_codes(self) -> None:
        """Codes that nobody may send are against the protocol."""
        for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535):
            self.assert_closes(1002, frame(CLOSE, code.to_bytes(2, "big")))

    def test_reasons(self) -> None:
        """A reason is UTF-8, and there is none without a code."""
        self.assert_closes(1007, frame(CLOSE, b"\x03\xe8\xff"))
        self.assert_closes(1002, frame(CLOSE, b"\x03"))


class WholeMessageTests(SynchronousTestCase):
    """Frames that are read without Autobahn."""

    @settings(deadline=None)
    @given(
        st.binary(max_size=300) | st.text(max_size=200).map(str.encode),
        st.binary(min_size=4, max_size=4),
        st.binary(max_size=9),
        st.sampled_from((TEXT, BINARY)),
    )
    def test_round_trip(
        self, payload: bytes, mask: bytes, rest: bytes, opcode: int
    ) -> None:
        """What was masked is unmasked, and what is behind it is not touched."""
        head = bytes((0x80 | opcode,)) + length(len(payload)) + mask
        data = rest + head + masked(payload, mask)
        message = read_whole(data + rest, len(rest), 300)
        if opcode == TEXT and payload.decode(errors="ignore").encode() != payload:
            self.assertIs(None, message)
        else:
            assert message is not None
            self.assertEqual(
                (payload, opcode == BINARY, len(data)),
                (message.payload, message.is_binary, message.end),
            )

    def test_left_alone(self) -> None:
        """What is not all there, or anything else than a whole message, is left."""
        whole = frame(TEXT, b"x" * 130)
        for cut in range(len(whole)):
            self.assertIs(None, read_whole(whole[:cut], 0, 130))
        self.assertIs(None, read_whole(whole, 0, 129))
        for opcode in (CONTINUATION, CLOSE, PING, PONG, 3):
            self.assertIs(None, read_whole(frame(opcode), 0, 130))
        self.assertIs(None, read_whole(frame(TEXT, fin=False), 0, 130))
        self.assertIs(None, read_whole(frame(TEXT, rsv=4), 0, 130))
