import io
import json
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from app.bundle.pt2 import MAX_PARTS, clean
from app.errors import BundleError
from tests.support.exported import exported
from tests.support.hostile import CONSTANTS, GRAPH, SAMPLES, WEIGHTS, Parts, archive_of, edited, parts_of

Edit = Callable[[dict[str, Any]], object]


def any_operator(target: str) -> bool:
    return target.startswith("torch.ops.aten.")


def cleaned(data: bytes) -> bytes:
    return clean(data, is_operator=any_operator)


@pytest.fixture(scope="module")
def data() -> bytes:
    return exported("mlp", "torch_export")


@pytest.fixture(scope="module")
def parts(data: bytes) -> Parts:
    return parts_of(data)


def test_what_is_clean_comes_back_byte_for_byte(data: bytes) -> None:
    assert cleaned(data) == data


def test_nothing_but_graph_and_tensors_is_handed_on(parts: Parts) -> None:
    more = {**parts, "extra/notes.txt": b"notes", ".data/serialization_id": b"1", "data/weights/weight_99": b"unused"}
    kept = parts_of(cleaned(archive_of(more)))
    assert kept == parts
    assert kept[SAMPLES] == b""
    assert set(kept) >= {GRAPH, WEIGHTS, CONSTANTS, "data/weights/weight_0", "archive_format", "archive_version"}


def test_stack_traces_and_guards_are_dropped(parts: Parts) -> None:
    def edit(document: dict[str, Any]) -> None:
        document["guards_code"] = ["L['x'].size()[0] > 0"]
        document["graph_module"]["metadata"] = {"custom": "{}"}
        document["graph_module"]["graph"]["nodes"][0]["metadata"] = {"stack_trace": "File somewhere"}

    assert parts_of(cleaned(archive_of(edited(parts, GRAPH, edit)))) == parts


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"archive_format": b"pt3"}, "archive_format b'pt3', and only b'pt2' is known"),
        ({"archive_version": b"1"}, "archive_version b'1', and only b'0' is known"),
        ({"archive_version": None}, "archive_version None"),
        ({"byteorder": b"big"}, "another byte order"),
        ({GRAPH: None}, "has no models/model.json"),
        ({WEIGHTS: None}, "has no data/weights/model_weights_config.json"),
        ({CONSTANTS: None}, "has no data/constants/model_constants_config.json"),
        ({GRAPH: b"{"}, "models/model.json of the .pt2 archive is no JSON"),
        ({GRAPH: b"[" * 100_000}, "models/model.json of the .pt2 archive is no JSON"),
        ({GRAPH: b"[]"}, "models/model.json of the .pt2 archive is no object"),
        ({GRAPH: b"{}"}, "not laid out as torch does"),
        ({WEIGHTS: b"{}"}, "a table of tensors .* is not laid out as torch does"),
        ({"models/other.json": b"{}"}, "'models/other.json': a part that is not known"),
        ({"data/aotinductor/model/x.so": b""}, "compiled code"),
        ({"data/constants/custom_obj_0": b""}, "script objects"),
        ({"data/weights/model.pt": b""}, "pickled weights"),
        ({"../../escape": b""}, "a part that is not known"),
        ({"data/weights/weight_0": None}, "has no tensor data/weights/weight_0, of network.body.0.weight"),
    ],
)
def test_parts_that_are_missing_or_not_known_are_refused(
    parts: Parts, changes: dict[str, bytes | None], message: str
) -> None:
    changed = {name: content for name, content in {**parts, **changes}.items() if content is not None}
    with pytest.raises(BundleError, match=message):
        cleaned(archive_of(changed))


def first_weight(document: dict[str, Any]) -> dict[str, Any]:
    entry: dict[str, Any] = next(iter(document["config"].values()))
    return entry


def test_another_schema_is_refused(parts: Parts) -> None:
    with pytest.raises(BundleError, match=r"of schema \{'major': 9, 'minor': 20\}, and only 8 is known"):
        cleaned(archive_of(edited(parts, GRAPH, lambda document: document["schema_version"].update(major=9))))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda d: first_weight(d).update(use_pickle=True), "is a pickle of"),
        (lambda d: first_weight(d).update(use_pickle=0), "is a pickle of"),
        (lambda d: first_weight(d).update(path_name="../../x"), "holds path_name"),
        (lambda d: first_weight(d).update(path_name="tensor_0"), "has no tensor"),
        (lambda d: first_weight(d)["tensor_meta"]["sizes"].__setitem__(0, {"as_int": 10**12}), "needs .* bytes"),
        (lambda d: first_weight(d)["tensor_meta"]["sizes"].__setitem__(0, {"as_int": -1}), "-1 is no size"),
        (lambda d: first_weight(d)["tensor_meta"]["sizes"].__setitem__(0, {"as_int": True}), "True is no size"),
        (lambda d: first_weight(d)["tensor_meta"]["sizes"].__setitem__(0, {"as_expr": {}}), "not laid out"),
        (lambda d: first_weight(d)["tensor_meta"].update(storage_offset={"as_int": 1}), "needs .* bytes"),
        (lambda d: first_weight(d)["tensor_meta"].update(strides=[{"as_int": 1}]), "not laid out"),
        (lambda d: first_weight(d)["tensor_meta"].update(dtype=8), "needs .* bytes"),
        (lambda d: first_weight(d)["tensor_meta"].update(dtype=99), "a layout or type that is not loaded"),
        (lambda d: first_weight(d)["tensor_meta"].update(layout=1), "a layout or type that is not loaded"),
        (lambda d: first_weight(d)["tensor_meta"].update(device={"type": "cuda"}), "lies on 'cuda': export it on"),
        (lambda d: d["config"].update({"__class__.x": first_weight(d)}), "holds the name '__class__.x'"),
    ],
    ids=["pickle", "pickle as 0", "path out", "path of a constant", "size", "negative size", "size true", "open size",
         "offset", "strides", "wider type", "unknown type", "layout", "device", "private name"],
)  # fmt: skip
def test_a_tensor_that_is_not_its_bytes_is_refused(parts: Parts, edit: Edit, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        cleaned(archive_of(edited(parts, WEIGHTS, edit)))


def set_expression(text: str) -> Edit:
    def edit(document: dict[str, Any]) -> None:
        values = document["graph_module"]["graph"]["tensor_values"].values()
        sizes = [size for value in values for size in value["sizes"] if "as_expr" in size]
        sizes[0]["as_expr"]["expr_str"] = text

    return edit


SYMBOL = "Symbol('s21', positive=True, integer=True)"


@pytest.mark.parametrize(
    "text", [SYMBOL, f"2*{SYMBOL}", f"FloorDiv({SYMBOL} + 1, 2)", "Integer(3)", f"Max(1, {SYMBOL})"]
)
def test_arithmetic_on_sizes_is_kept(parts: Parts, text: str) -> None:
    assert text.encode() in parts_of(cleaned(archive_of(edited(parts, GRAPH, set_expression(text)))))[GRAPH]


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os')", "Symbol('s1').__class__", "9**9**9**9", "9* *9", "lambda: 1", "Symbol(open('x'))", "s1",
        "f(1)", "Symbol('s1', positive=False)", "[1 for _ in ()]", "1" * 19, "(" * 2000, "1.5", "Function('f')(1)",
    ],
    ids=[str(index) for index in range(14)],
)  # fmt: skip
def test_anything_else_between_sizes_is_refused(parts: Parts, text: str) -> None:
    with pytest.raises(BundleError, match="holds expr_str"):
        cleaned(archive_of(edited(parts, GRAPH, set_expression(text))))


def signature(document: dict[str, Any]) -> dict[str, Any]:
    entry: dict[str, Any] = document["graph_module"]["module_call_graph"][0]["signature"]
    return entry


LEAF = {"type": None, "context": None, "children_spec": []}


def node(type_: str | None, context: str | None, *children: dict[str, Any]) -> str:
    return json.dumps([1, {"type": type_, "context": context, "children_spec": list(children)}])


@pytest.mark.parametrize(
    "text",
    [
        "", "{}", "[]", "[2, null]", "nonsense", "[1, 2]",
        node("collections.defaultdict", "null"), node("collections.OrderedDict", "[]"), node("builtins.tuple", "{}"),
        node("builtins.dict", '[{"__enum__": true}]'), node("builtins.dict", '["a b"]'), node(None, "x"),
        node("builtins.tuple", "null", {**LEAF, "type": "os.system"}),
    ],
)  # fmt: skip
def test_trees_of_anything_but_plain_containers_are_refused(parts: Parts, text: str) -> None:
    with pytest.raises(BundleError, match="holds in_spec"):
        cleaned(archive_of(edited(parts, GRAPH, lambda document: signature(document).update(in_spec=text))))


def test_a_tree_without_end_is_refused(parts: Parts) -> None:
    text = '[1, {"type": "builtins.tuple", "context": "null", "children_spec": [' * 5_000
    with pytest.raises(BundleError):
        cleaned(archive_of(edited(parts, GRAPH, lambda document: signature(document).update(in_spec=text))))


@pytest.mark.parametrize(
    "edit",
    [
        lambda d: d["graph_module"]["graph"]["nodes"][0].update(target="os.system"),
        lambda d: d["graph_module"]["graph"]["nodes"][0].update(name="a b"),
        lambda d: d["graph_module"]["graph"]["nodes"][0].update(name="import"),
        lambda d: d["graph_module"]["graph"]["nodes"][0].update(name="a\n"),
        lambda d: d["graph_module"]["graph"]["nodes"][0]["inputs"][0]["arg"].update(as_operator="torch.load"),
        lambda d: d["graph_module"]["graph"]["nodes"][0]["inputs"][0]["arg"].update(as_graph={}),
        lambda d: d["graph_module"]["graph"]["nodes"][0]["inputs"][0]["arg"].update(as_string="/etc/passwd"),
        lambda d: d["graph_module"]["graph"]["inputs"][0].update(as_custom_obj={"name": "a", "class_fqn": "b"}),
        lambda d: d["graph_module"]["signature"]["input_specs"].append({"custom_obj": {}}),
        lambda d: signature(d).update(forward_arg_names=["x=__import__('os')"]),
        lambda d: d.update({'a"b': 1}),
        lambda d: d.update(verifiers=["a/b"]),
        lambda d: d.update(surprise={"deep": ["a-b"]}),
    ],
    ids=["target", "two words", "keyword", "newline", "operator", "graph", "path", "object", "object input", "argument",
         "key", "verifier", "unknown part"],
)  # fmt: skip
def test_a_graph_of_more_than_tensors_is_refused(parts: Parts, edit: Edit) -> None:
    with pytest.raises(BundleError, match=r"the \.pt2 archive holds"):
        cleaned(archive_of(edited(parts, GRAPH, edit)))


def test_a_compressed_archive_is_refused(parts: Parts) -> None:
    """So no file can grow beyond its own size while it is read."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in {**parts, "data/weights/weight_0": b"\0" * 10**7}.items():
            archive.writestr(f"archive/{name}", content)
    with pytest.raises(BundleError, match=r"compressed|more than its own size"):
        cleaned(buffer.getvalue())


def test_parts_that_overlap_are_refused(data: bytes) -> None:
    """A directory may name the same bytes many times over."""
    buffer = io.BytesIO(data)
    with zipfile.ZipFile(buffer, "a") as archive:
        largest = max(archive.infolist(), key=lambda info: info.file_size)
        for index in range(5):
            copy = zipfile.ZipInfo(f"archive/data/weights/weight_{50 + index}")
            copy.file_size = copy.compress_size = largest.file_size
            copy.header_offset, copy.CRC = largest.header_offset, largest.CRC
            archive.filelist.append(copy)
            archive.NameToInfo[copy.filename] = copy
        archive._didModify = True  # type: ignore[attr-defined]
    with pytest.raises(BundleError, match="more than its own size"):
        cleaned(buffer.getvalue())


def test_two_parts_of_one_name_are_refused(parts: Parts) -> None:
    buffer = io.BytesIO(archive_of(parts))
    with zipfile.ZipFile(buffer, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr(f"archive/{GRAPH}", b"{}")
    with pytest.raises(BundleError, match="two parts of one name"):
        cleaned(buffer.getvalue())


def test_too_many_parts_are_refused() -> None:
    with pytest.raises(BundleError, match="more than its own size"):
        cleaned(archive_of({f"extra/{index}": b"" for index in range(MAX_PARTS + 1)}))


def test_whatever_is_cut_off_or_flipped_is_refused_or_harmless(data: bytes) -> None:
    """The reader answers with its own error, or with an archive that torch reads as tensors only."""
    for index in range(0, len(data), len(data) // 97):
        for damaged in (data[:index], data[:index] + bytes([data[index] ^ 0x55]) + data[index + 1 :]):
            try:
                parts = parts_of(cleaned(damaged))
            except BundleError:
                continue
            assert set(parts) == set(parts_of(data))


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield where something stands in a document."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from places(item, (*path, key))


@pytest.mark.parametrize("part", [GRAPH, WEIGHTS])
@pytest.mark.parametrize("value", [None, [], {}, 1, True, "a b", "ab"], ids=repr)
def test_whatever_stands_anywhere_in_a_document_is_kept_or_refused(part: str, value: object) -> None:
    """Nothing but the house's own error leaves."""
    parts = parts_of(exported("numpy_regression", "torch_export"))
    for *path, last in list(places(json.loads(parts[part])))[::7]:

        def edit(document: Any, path: list[Any] = path, last: Any = last) -> None:
            for key in path:
                document = document[key]
            document[last] = value

        with suppress(BundleError):
            assert set(parts_of(cleaned(archive_of(edited(parts, part, edit))))) <= set(parts)
