"""Hostile requests, made of good ones by a seed: the same number is always the same bytes."""

import gzip
import json
import random
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from tests.drills.doors import JSON, OCTETS, Ask

# of the service that is drilled, so that a few bytes are too many
MAX_BODY_BYTES = 2**20
HEAD_TIMEOUT_S = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What one caller does on a connection.

    Attributes:
        kind: In a word.
        parts: Written one after the other.
        rest_s: Between two parts.
        answers: How many are waited for; 0 where none has to come, and the caller hangs up soon.
        is_kept: Whether the connection may have been used before, and be used again.
    """

    kind: str
    parts: tuple[bytes, ...]
    rest_s: float = 0.0
    answers: int = 1
    is_kept: bool = False


# of a thousand
WEIGHTS = {
    "mutated JSON": 380, "mutated bytes": 70, "mutated head": 120, "random bytes": 110, "truncated": 100,
    "pipelined": 70, "oversized": 30, "pictures": 35, "encodings": 25, "slow": 10, "deaf": 5, "gRPC message": 40,
    "gRPC bytes": 5,
}  # fmt: skip
_EVIL_JSON = (
    "NaN", "Infinity", "-Infinity", "1e400", "-1e-400", "1e39", "9" * 400, "-0", "0x10", "null", "true", '""', "[]",
    "{}", "[[]]", "[[[[[[]]]]]]", '"\\ud800"', '"\\u0000"', '"' + "A" * 5000 + '"', "[" * 300 + "]" * 300, "[" * 5000,
    '{"a":' * 200 + "1" + "}" * 200, "18446744073709551616", "-9223372036854775809", '"data:image/png;base64,AAAA"',
    '"//////8="', "'single'", "// comment", "1,", "[1,2,3],[4]", '{"instances":[]}', '"__proto__"',
)  # fmt: skip
_EVIL_VALUES: tuple[object, ...] = (
    None, True, False, 0, -1, 255, 256, 0.5, 1e38, 1e39, -1e308, 2**31, 2**63, 2**64, -(2**63) - 1, 10**300, "", " ",
    "0", "\ud800", "\0", "\ufeff", "a" * 20_000,
    "\u202e" * 50, "iVBORw0KGgo=", "data:image/png;base64,", "//////8=", [], {},
    [[]], [None], [[1, 2], [3]], {"a": {"a": {}}}, [0] * 2000, {str(number): number for number in range(300)},
)  # fmt: skip
_EVIL_NAMES = (
    "",
    "__proto__",
    "instances",
    "inputs",
    "parameters",
    "model",
    "\0",
    "n" * 3000,
    "version",
    "id",
    "shape",
)
_EVIL_HEADERS = (
    b"Content-Type: application/json; charset=utf-16", b"Content-Type: text/plain", b"Content-Type: ",
    b"Content-Type: multipart/form-data; boundary=", b"Content-Type: multipart/form-data; boundary=x",
    b"Content-Length: -1", b"Content-Length: 0", b"Content-Length: 99999999999999999999", b"Content-Length: +5",
    b"Content-Length: 5, 5", b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: xchunked", b"Expect: 100-continue", b"Expect: 200-ok", b"Upgrade: h2c", b"Upgrade: websocket",
    b"Connection: Upgrade, HTTP2-Settings", b"Accept: application/octet-stream", b"Accept: image/*;q=NaN",
    b"Accept-Encoding: gzip;q=-1, br;q=2", b"X-Request-ID: " + b"i" * 4000, b"X-Request-ID: \xff\xfe",
    b"X-Request-Timeout-Ms: -5", b"X-Request-Timeout-Ms: 1e9", b"X-Request-Timeout-Ms: 99999999999999999",
    b"Inference-Header-Content-Length: -1", b"Inference-Header-Content-Length: 999999999",
    b"Inference-Header-Content-Length: 3", b"Authorization: Bearer " + b"k" * 3000, b"Host: \x00",
    b"Host: a\r\nHost: b",
    b" folded: line", b"No colon here", b"X-Amzn-SageMaker-Target-Model: ../../etc/passwd",
    b"X-Amzn-SageMaker-Custom-Attributes: " + b"a=" * 700, b"traceparent: 00-zz-zz-01", b"Range: bytes=0-0",
    b"X-API-Key: \xff", b"X-API-Key: " + b"k" * 9000,
    b"Authorization: Basic YTpi", b"Authorization: Bearer", b"Origin: http://elsewhere.example",
    b"traceparent: 00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-01", b"baggage: " + b"a=b," * 900,
    b"Content-Encoding: identity, gzip, gzip, gzip, gzip, gzip, gzip", b"Cookie: " + b"c" * 6000,
)  # fmt: skip
_EVIL_PATHS = (
    "/predict/%2e%2e/%2e%2e/etc/passwd", "/predict/cnn?version=-1", "/predict/cnn?version=99999999999999999999",
    "/predict/cnn?version=1&version=2", "/predict/cnn?top_k=1e9", "/predict/cnn?top_k=", "/predict/cnn?nobody=1",
    "/predict/cnn?%00=%ff", "/predict/nobody", "/predict//cnn", "//predict/cnn", "/predict/cnn/", "/models/\u00ff",
    "/models/cnn/../mlp", "/v2/models/cnn/versions/0/infer", "/v2/models/cnn/versions/-1/ready", "/v2/models/%00/ready",
    "/admin/models/cnn", "/admin/models/cnn/policy", "/admin/models/cnn/rollback", "/admin/models/%2e%2e/load",
    "/predict/cnn?version=" + "v" * 3000, "/predict/cnn?version=stable", "/v2/models/cnn/versions/latest/infer",
    "/v1/models/cnn:explain", "/v1/models/:predict", "/v2/repository/index", "/v2/repository/models/cnn/unload",
    "/openapi.json?x=" + "x" * 8000, "/docs/../../", "*", "http://elsewhere.example/predict/cnn", "/metrics?name[]=%f0",
    "/predict/cnn?" + "&".join(f"a{i}=1" for i in range(500)), "/\r\nX: y", "/predict/autoencoder?outputs=nothing",
)  # fmt: skip
_METHODS = ("GET", "PUT", "DELETE", "HEAD", "OPTIONS", "TRACE", "CONNECT", "PATCH", "BREW", "get", "PRI")


class Cases:
    """Makes the case of any number.

    Args:
        asks: Good requests.
        messages: Good messages of gRPC.
        seed: Of them all.
    """

    def __init__(self, asks: Sequence[Ask], messages: Sequence[bytes], seed: int) -> None:
        self._posts = [ask for ask in asks if ask.method == "POST"]
        self._messages = messages
        self._seed = seed
        self._makers: dict[str, Callable[[random.Random], Case]] = {
            "mutated JSON": self._json,
            "mutated bytes": self._octets,
            "mutated head": self._head,
            "random bytes": self._random,
            "truncated": self._truncated,
            "pipelined": self._pipelined,
            "oversized": self._oversized,
            "pictures": self._picture,
            "encodings": self._encoded,
            "slow": self._slow,
            "deaf": self._deaf,
            "gRPC message": self._message,
            "gRPC bytes": self._grpc_bytes,
        }

    @cached_property
    def _json_posts(self) -> list[Ask]:
        return [ask for ask in self._posts if ask.content_type == JSON]

    @cached_property
    def _kinds(self) -> list[str]:
        kinds = [kind for kind, weight in WEIGHTS.items() for _ in range(weight)]
        random.Random(self._seed).shuffle(kinds)
        return kinds

    def case(self, number: int) -> Case:
        """Return one."""
        rng = random.Random(self._seed * 1_000_003 + number)
        return self._makers[self._kinds[number % len(self._kinds)]](rng)

    def good(self, number: int) -> Case:
        """Return what is sent in its place where nothing is hostile: a good request, likewise kept or not."""
        ask = self._posts[number % len(self._posts)]
        return Case(kind="good", parts=(ask.data,), is_kept=self.case(number).is_kept)

    def _json(self, rng: random.Random) -> Case:
        ask = rng.choice(self._json_posts)
        body = ask.body
        if rng.random() < 0.5:  # still JSON, for what lies behind the parser
            document = json.loads(body)
            for _ in range(rng.choice((1, 1, 2, 4))):
                document = _grafted(rng, document)
            return _whole("mutated JSON", replace(ask, body=json.dumps(document).encode()))
        for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
            body = rng.choice((_replaced, _replaced, _cut, _doubled, _flipped, _wrapped))(rng, body)
        return _whole("mutated JSON", replace(ask, body=body))

    def _octets(self, rng: random.Random) -> Case:
        ask = rng.choice(self._posts)
        body = rng.choice((_cut, _doubled, _flipped))(rng, ask.body)
        if rng.random() < 0.3:
            body = rng.randbytes(rng.randrange(6000))
        headers = dict(ask.headers)
        if rng.random() < 0.3:
            headers["Inference-Header-Content-Length"] = str(rng.choice((0, 1, len(body), len(body) + 1, 77)))
        return _whole("mutated bytes", replace(ask, body=body, content_type=OCTETS, headers=headers))

    def _head(self, rng: random.Random) -> Case:
        ask = rng.choice(self._posts)
        if rng.random() < 0.3:
            ask = replace(ask, path=rng.choice(_EVIL_PATHS))
        if rng.random() < 0.2:
            ask = replace(ask, method=rng.choice(_METHODS))
        head, _, body = ask.data.partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        for _ in range(rng.choice((0, 1, 1, 2, 5))):
            lines.insert(rng.randrange(1, len(lines) + 1), rng.choice(_EVIL_HEADERS))
        if rng.random() < 0.1:
            lines = [line for line in lines if rng.random() < 0.7]
        # a stated length that is a lie may leave the service waiting, as it should
        return Case(kind="mutated head", parts=(b"\r\n".join(lines) + b"\r\n\r\n" + body,), answers=0)

    def _random(self, rng: random.Random) -> Case:
        data = rng.randbytes(rng.choice((1, 5, 40, 400, 3000)))
        start = rng.choice(
            (b"", b"", b"POST ", b"GET / HTTP/1.1\r\n", b"\x16\x03\x01", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        )
        return Case(kind="random bytes", parts=(start + data + rng.choice((b"", b"\r\n\r\n")),), answers=0)

    def _truncated(self, rng: random.Random) -> Case:
        data = rng.choice(self._posts).data
        return Case(kind="truncated", parts=(data[: rng.randrange(1, len(data))],), answers=0)

    def _pipelined(self, rng: random.Random) -> Case:
        asks = [rng.choice(self._posts) for _ in range(rng.randrange(2, 12))]
        data = b"".join(ask.data for ask in asks)
        if rng.random() < 0.5:  # what follows a body that ends elsewhere is anybody's guess
            broken = rng.choice((_cut, _doubled, _flipped))(rng, data)
            return Case(kind="pipelined", parts=(broken,), answers=0)
        return Case(kind="pipelined", parts=(data,), answers=len(asks))

    def _oversized(self, rng: random.Random) -> Case:
        ask, what = rng.choice(self._posts), rng.randrange(5)
        if what == 0:  # announced only
            data = replace(ask, body=b"").data.replace(
                b"Content-Length: 0", b"Content-Length: %d" % (MAX_BODY_BYTES + 1)
            )
        elif what == 1:  # grows in chunks
            chunk = b"10000\r\n" + b" " * 65_536 + b"\r\n"
            head = replace(ask, body=b"").data.replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
            return Case(kind="oversized", parts=(head, *[chunk] * (MAX_BODY_BYTES // 65_536 + 1), b"0\r\n\r\n"))
        elif what == 2:  # one header
            data = ask.data.replace(b"Host:", b"X-Long: " + b"x" * 70_000 + b"\r\nHost:", 1)
        elif what == 3:  # many headers
            many = b"".join(b"X-%d: y\r\n" % number for number in range(400))
            data = ask.data.replace(b"Host:", many + b"Host:", 1)
        else:  # many instances, within the bytes
            count = rng.choice((1025, 30_000))
            data = _whole(
                "", Ask(door="", path="/predict/numpy_mlp", body=b'{"instances":[' + b"0," * count + b"0]}")
            ).parts[0]
        return Case(kind="oversized", parts=(data,))

    def _picture(self, rng: random.Random) -> Case:
        ask = rng.choice([ask for ask in self._posts if ask.content_type == "image/png"])
        what = rng.randrange(4)
        if what == 0:
            body = rng.choice((_cut, _flipped, _doubled))(rng, ask.body)
        elif what == 1:  # of more pixels than anybody has
            side = rng.choice((1, 5000, 60_000, 2**31 - 1))
            header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, rng.choice((0, 2, 3, 6)), 0, 0, 0)
            body = ask.body[:8] + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header)) + ask.body[33:]
        elif what == 2:
            body = rng.choice((b"\xff\xd8\xff\xe0", b"GIF89a", b"BM", b"RIFF", b"II*\0")) + rng.randbytes(300)
        else:
            boundary = b"xyz"
            body = b"--xyz\r\nContent-Disposition: form-data; name=" + rng.choice(
                (b'"file"', b'"file', b'""', b"x" * 900)
            )
            body += (
                b"\r\n\r\n"
                + ask.body[: rng.randrange(len(ask.body))]
                + rng.choice((b"\r\n--xyz--\r\n", b"", b"\r\n--xyz"))
            )
            return _whole(
                "pictures", replace(ask, body=body, content_type=f"multipart/form-data; boundary={boundary.decode()}")
            )
        return _whole(
            "pictures", replace(ask, body=body, content_type=rng.choice(("image/png", "image/jpeg", "image/*")))
        )

    def _encoded(self, rng: random.Random) -> Case:
        ask, what = rng.choice(self._posts), rng.randrange(4)
        coding = rng.choice(("gzip", "deflate", "br", "zstd", "gzip, gzip"))
        if what == 0:
            body, coding = (
                gzip.compress(b" " * (MAX_BODY_BYTES * 20), mtime=0),
                "gzip",
            )  # a thousandth of what it becomes
        elif what == 1:
            body = _flipped(rng, gzip.compress(ask.body, mtime=0))
        elif what == 2:
            body = _cut(rng, zlib.compress(ask.body))
        else:
            body = rng.randbytes(rng.randrange(200))
        return _whole("encodings", replace(ask, body=body, headers={**ask.headers, "Content-Encoding": coding}))

    def _slow(self, rng: random.Random) -> Case:
        data = rng.choice(self._posts).data
        pieces = rng.randrange(5, 40)
        cut_in_head = rng.random() < 0.6
        dribbled = data[: data.index(b"\r\n\r\n")] if cut_in_head else data
        step = max(1, len(dribbled) // pieces)
        parts = tuple(dribbled[place : place + step] for place in range(0, len(dribbled), step))
        return Case(kind="slow", parts=parts, rest_s=rng.choice((0.02, 0.1, 0.2)), answers=0)

    def _deaf(self, rng: random.Random) -> Case:
        """One that asks for much and reads nothing."""
        ask = rng.choice([ask for ask in self._json_posts if ask.path == "/predict/autoencoder"])
        instance = json.loads(ask.body)["instances"][0]
        many = replace(ask, body=json.dumps({"instances": [instance] * 60}).encode())
        return Case(kind="deaf", parts=(many.data,) * 3, answers=-1)

    def _message(self, rng: random.Random) -> Case:
        message = rng.choice(self._messages)
        for _ in range(rng.choice((1, 1, 2, 6))):
            message = rng.choice((_cut, _doubled, _flipped))(rng, message)
        if rng.random() < 0.1:
            message = rng.randbytes(rng.randrange(500))
        return Case(kind="gRPC message", parts=(message,))

    def _grpc_bytes(self, rng: random.Random) -> Case:
        start = rng.choice((b"", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"))
        return Case(kind="gRPC bytes", parts=(start + rng.randbytes(rng.randrange(1, 500)),), answers=0)


def _whole(kind: str, ask: Ask) -> Case:
    return Case(kind=kind, parts=(ask.data,), is_kept=True)


def _grafted(rng: random.Random, node: object) -> object:
    """Return a document with one of its values changed, dropped or given twice, somewhere."""
    if isinstance(node, dict) and node and rng.random() < 0.85:
        key = rng.choice(list(node))
        what = rng.random()
        if what < 0.08:
            return {name: value for name, value in node.items() if name != key}
        if what < 0.16:
            return {**node, rng.choice(_EVIL_NAMES): node[key]}
        return {**node, key: _grafted(rng, node[key])}
    if isinstance(node, list) and node and rng.random() < 0.85:
        place = rng.randrange(len(node))
        what = rng.random()
        if what < 0.08:
            return node[:place] + node[place + 1 :]
        if what < 0.16:
            return node[:place] + [node[place]] * rng.choice((2, 3, 40)) + node[place:]
        return [*node[:place], _grafted(rng, node[place]), *node[place + 1 :]]
    return rng.choice(_EVIL_VALUES)


def _replaced(rng: random.Random, body: bytes) -> bytes:
    """Put something evil in the place of a value."""
    place = rng.randrange(max(1, len(body)))
    start = max(body.rfind(mark, 0, place) for mark in (b":", b",", b"[", b"{"))
    ends = [end for mark in (b",", b"]", b"}", b":") if (end := body.find(mark, start + 1)) > 0]
    return body[: start + 1] + rng.choice(_EVIL_JSON).encode() + body[min(ends, default=len(body)) :]


def _cut(rng: random.Random, body: bytes) -> bytes:
    start = rng.randrange(max(1, len(body)))
    return body[:start] + body[start + rng.randrange(1, 200) :]


def _doubled(rng: random.Random, body: bytes) -> bytes:
    start = rng.randrange(max(1, len(body)))
    return body[:start] + body[start : start + rng.randrange(1, 400)] * rng.choice((2, 3, 20)) + body[start:]


def _flipped(rng: random.Random, body: bytes) -> bytes:
    changed = bytearray(body)
    for _ in range(rng.randrange(1, 9)):
        if changed:
            changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def _wrapped(rng: random.Random, body: bytes) -> bytes:
    before, after = rng.choice(
        ((b"[", b"]"), (b"\xef\xbb\xbf", b""), (b"", b"{}"), (b"", b"\0"), (b'{"instances":', b"}"))
    )
    return before + body + after
