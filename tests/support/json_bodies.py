"""Bodies of prediction requests as text, with damage: what a decoder that only accepts is held against.

One thing is wrong with most, rarely two: what is wrong twice over shows only one check at work.
"""

from collections.abc import Collection, Sequence

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

STRANGE = st.sampled_from(
    ["-1", "256", "255.0000000001", "-1e-9", "1e39", "1e400", "-1e400", "NaN", "-NaN", "Infinity", "-Infinity", "nan",
     "true", "false", "null", '"5"', '""', "[]", "[1]", "[[1]]", "{}", '{"a":1}', "01", "+1", ".5", "1.", "1e", "0x1",
     "18446744073709551616", "9" * 30, "9" * 400, "9" * 4400, "1" + "0" * 38, "--1", "1 2", "1_0", "", "é", "\\u0031"]
)  # fmt: skip
SNIPPETS = st.sampled_from(
    [b"[", b"]", b"{", b"}", b",", b":", b'"', b"0", b"1", b"-", b".", b"e", b" ", b"\n", b"\x00", b"\\", b"\xff",
     b"[]", b"[[", b"]]", b"],[", b"1,", b"null", b'"image":', b'"model":"dummy",', b"\xef\xbb\xbf", b"/*x*/", b"\xc3"]
)  # fmt: skip


def damages_of(*more: str) -> SearchStrategy[Sequence[str]]:
    """Return what is to be wrong with a body: kinds of :func:`body_of`, or the given ones, which the caller does."""
    kinds = st.sampled_from([*more, "member", "body", "model", "edge", "bytes"])
    return st.integers(0, 3).flatmap(lambda dice: st.lists(kinds, max_size=2) if dice == 0 else st.tuples(kinds))


@st.composite
def body_of(draw: DrawFn, model: str, key: str, values: Sequence[str], damages: Collection[str]) -> bytes:
    """Return a body whose instances hold the given JSON under a key, damaged as asked for."""
    instances = [[(key, value)] for value in values]
    if "member" in damages:
        draw(changed(instances[-1], key))
    pairs = [("instances", array([as_object(instance) for instance in instances]))]
    if "model" in damages or draw(st.booleans()):
        strange = ['"other"', "null", "1", f'["{model}"]', f'"\\u{ord(model[0]):04x}{model[1:]}"']
        names = strange if "model" in damages else [f'"{model}"']
        pairs.insert(draw(st.integers(0, 1)), ("model", draw(st.sampled_from(names))))
    if "body" in damages:
        draw(changed(pairs, key))
    body = as_object(pairs).encode()
    if "edge" in damages:
        body = draw(st.sampled_from([b"", b"\xef\xbb\xbf", b" \n", b"[", b"\x00", b"1"])) + body
        body += draw(st.sampled_from([b"", b" \n", b"]", b"}", b"\x00", b"1", b"{}", b"[]"]))
    return draw(damaged(body)) if "bytes" in damages else body


def array(items: list[str]) -> str:
    return "[" + ",".join(items) + "]"


@st.composite
def changed(draw: DrawFn, pairs: list[tuple[str, str]], key: str) -> None:
    """Give an object, in place, a member more or less, one twice, or the same in other words."""
    kind = draw(st.sampled_from(["more", "more", "twice", "less", "escaped", "none"]))
    if kind == "more":
        name = draw(st.sampled_from([key, "model", "instances", "extra", key.capitalize(), ""]))
        pairs.insert(draw(st.integers(0, len(pairs))), (name, draw(st.sampled_from(["0", "2.5"]) | STRANGE)))
    elif kind == "twice":
        pairs.append(draw(st.sampled_from(pairs)))
    elif kind == "less":
        pairs.pop()
    elif kind == "escaped":
        pairs[:] = [(f"\\u00{ord(name[0]):02x}{name[1:]}", value) for name, value in pairs]
    else:
        pairs.clear()


def as_object(pairs: list[tuple[str, str]]) -> str:
    return "{" + ",".join(f'"{name}":{value}' for name, value in pairs) + "}"


@st.composite
def damaged(draw: DrawFn, body: bytes) -> bytes:
    start = draw(st.integers(0, len(body)))
    kind = draw(st.sampled_from(["cut", "delete", "insert", "replace", "flip"]))
    if kind == "cut":
        return body[:start]
    if kind == "delete":
        return body[:start] + body[start + 1 :]
    if kind == "insert":
        return body[:start] + draw(SNIPPETS) + body[start:]
    if kind == "replace":
        return body[:start] + draw(SNIPPETS) + body[start + 1 :]
    return (
        body[:start]
        + bytes([byte ^ 1 << draw(st.integers(0, 7)) for byte in body[start : start + 1]])
        + body[start + 1 :]
    )
