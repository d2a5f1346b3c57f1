"""Looks into a ``.pt2`` archive before torch does, and hands on nothing but what it has understood.

`torch.export.load` runs what an archive brings, in many ways (read in torch 2.13, ``torch/export/pt2_archive`` and
``torch/_export/serde``). Weights, constants and sample inputs may be pickles; older layouts, to which it falls back,
are pickles throughout; script objects and opaque objects are unpickled; compiled parts are shared libraries. The JSON
of the graph is no safer: expressions of sizes go through `sympy.sympify`, which evaluates them as Python; a node's
target may be any function that can be reached from ``torch``; tree specifications import modules by name; guards and
the names of nodes become source that is executed.

So the archive is never handed on as it came. :func:`clean` reads the graph, the two tables of tensors and the raw bytes
that they name, holds every string against a grammar of what a graph of plain tensors needs, drops what is not needed
(sample inputs, guards, stack traces) and writes an archive of its own. What was checked is then what is loaded, however
differently two readers of ZIP files may see the original.
"""

import io
import json
import keyword
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from app.errors import BundleError

FORMAT, VERSION = b"pt2", b"0"
SCHEMA_MAJOR = 8
MAX_PARTS = 10_000
# operators on the sizes of tensors, not on tensors
SIZE_OPERATORS = frozenset(
    [
        *(f"_operator.{name}" for name in ("add", "sub", "mul", "floordiv", "truediv", "mod", "neg", "pos", "getitem")),
        *(f"_operator.{name}" for name in ("eq", "ne", "lt", "le", "gt", "ge", "and_", "or_", "not_")),
        *(f"math.{name}" for name in ("ceil", "floor", "trunc")),
        *(f"torch.sym_{name}" for name in ("int", "float", "max", "min", "ite", "not")),
    ]
)

_GRAPH = "models/model.json"
_TABLES = {"data/weights/": "model_weights_config.json", "data/constants/": "model_constants_config.json"}
_RAW = re.compile(r"data/(weights/weight|constants/tensor)_[0-9]{1,6}")
_DROPPED = re.compile(
    r"data/sample_inputs/model\.pt|extra/.*|byteorder|\.data/(version|serialization_id)|\.format_version|\.storage_alignment"
)
_REFUSED = {
    "data/aotinductor/": "compiled code",
    "data/constants/custom_obj_": "script objects",
    "data/constants/opaque_obj_": "pickled objects",
    "data/constants/model.pt": "pickled constants",
    "data/weights/model.pt": "pickled weights",
    "serialized_": "the pickles of an older layout",
    "data.pkl": "a pickle",
    "code/": "TorchScript",
}
# by the numbers of torch/_export/serde/schema.py: bytes of an element
_ITEM_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 2, 7: 4, 8: 8, 12: 1, 13: 2}
_STRIDED = 7

# arguments that carry objects, functions or whole graphs; and what declares such inputs
_NOT_TENSORS = frozenset(
    ["as_graph", "as_operator", "as_custom_obj", "as_string_to_argument", "custom_obj", "token", "__enum__"]
)
# what JSON cannot write as a number
_NOT_FINITE = ("Infinity", "-Infinity", "NaN")
_TEXT = re.compile(r"[A-Za-z0-9_ .,:>-]{0,128}")
_PATH = re.compile(r"(?:(?!__)[A-Za-z0-9_]+(?:\.(?!__)[A-Za-z0-9_]+)*)?")
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TORCH_VERSION = re.compile(r"[A-Za-z0-9.+<= -]{0,64}")
_SYMBOL = r"Symbol\('[a-z]{1,8}[0-9]{1,9}'(?:, (?:positive|nonnegative|integer)=True)*\)"
_FUNCTION = (
    r"(?:Add|Mul|Integer|Max|Min|FloorDiv|CeilDiv|CleanDiv|IntTrueDiv|FloatTrueDiv|Mod|PythonMod|ModularIndexing"
    r"|ToFloat|TruncToInt|Eq|Ne|Ge|Gt|Le|Lt)\("
)
# no power, of numbers that one could not wait for
_EXPRESSION = re.compile(rf"(?:{_SYMBOL}|{_FUNCTION}|(?<![0-9])[0-9]{{1,18}}(?![0-9])|\*(?!\s*\*)|[-+/(), <>=])*")
MAX_EXPRESSION = 1024
_CONTAINERS = ("builtins.tuple", "builtins.list", "builtins.dict")


def clean(data: bytes, *, is_operator: Callable[[str], bool]) -> bytes:
    """Return an archive of the same graph and tensors, which holds nothing that can run code.

    Args:
        data: A file as `torch.export.save` writes it.
        is_operator: Tells whether a node's target is an operator on tensors, and does nothing beside computing.

    Raises:
        BundleError: It is no such archive, of an unknown version, or holds something else than tensors, operators on
            them, and their sizes; the message says what was found.
    """
    parts = _parts(data)
    for name, expected in (("archive_format", FORMAT), ("archive_version", VERSION)):
        if (found := parts.get(name)) != expected:
            raise BundleError(f"the .pt2 archive has {name} {found!r}, and only {expected!r} is known")
    if parts.get("byteorder", b"little") != b"little":
        raise BundleError("the .pt2 archive holds numbers of another byte order")
    graph = _document(parts, _GRAPH)
    _check_graph(graph, is_operator)
    kept: dict[str, bytes] = {_GRAPH: json.dumps(graph).encode()}
    for folder, name in _TABLES.items():
        table = _document(parts, folder + name)
        for path in _checked_table(table, parts, folder):
            kept[path] = parts[path]
        kept[folder + name] = json.dumps(table).encode()
    # empty: torch takes that for no sample inputs, which serving does not need
    kept["data/sample_inputs/model.pt"] = b""
    return _archive(kept | {"archive_format": FORMAT, "archive_version": VERSION, ".data/version": b"6\n"})


def _parts(data: bytes) -> dict[str, bytes]:
    """Read the parts that may be needed, by their path below the archive's root; bounded by the size of the file."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            infos = archive.infolist()
            if len(infos) > MAX_PARTS or sum(info.file_size for info in infos) > len(data):
                raise BundleError("the .pt2 archive claims to hold more than its own size")
            if any(info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size for info in infos):
                raise BundleError("the .pt2 archive is compressed, which torch never writes")
            names = [_name(info.filename) for info in infos]
            if len(set(names)) != len(names):
                raise BundleError("the .pt2 archive holds two parts of one name")
            wanted = [(name, info) for name, info in zip(names, infos, strict=True) if _is_wanted(name)]
            return {name: archive.read(info) for name, info in wanted}
    except BundleError:
        raise
    except Exception as exc:  # zipfile answers a broken archive with many types
        raise BundleError(f"this is no .pt2 archive: {type(exc).__name__}: {exc}") from exc


def _name(filename: str) -> str:
    root, separator, name = filename.partition("/")
    # torch writes all parts below one folder; the older layout has none
    return name if separator and root != ".data" else filename


def _is_wanted(name: str) -> bool:
    """Tell whether a part is read; what is neither read nor known to be dropped is refused."""
    tables = [folder + table for folder, table in _TABLES.items()]
    if name in ("archive_format", "archive_version", "byteorder", _GRAPH, *tables) or _RAW.fullmatch(name):
        return True
    if _DROPPED.fullmatch(name):
        return False
    reason = next((what for prefix, what in _REFUSED.items() if name.startswith(prefix)), "a part that is not known")
    raise BundleError(f"the .pt2 archive holds {name[:128]!r}: {reason}, which is not loaded")


def _document(parts: Mapping[str, bytes], name: str) -> dict[str, Any]:
    if name not in parts:
        raise BundleError(f"the .pt2 archive has no {name}")
    try:
        document = json.loads(parts[name])
    except (ValueError, RecursionError) as exc:
        raise BundleError(f"{name} of the .pt2 archive is no JSON: {exc}") from exc
    if not isinstance(document, dict):
        raise BundleError(f"{name} of the .pt2 archive is no object")
    return document


def _check_graph(document: dict[str, Any], is_operator: Callable[[str], bool]) -> None:
    """Hold a graph against the grammar; drop, in place, what only tells of how it was made."""
    try:
        if document["schema_version"]["major"] != SCHEMA_MAJOR:
            raise BundleError(
                f"the .pt2 archive is of schema {document['schema_version']}, and only {SCHEMA_MAJOR} is known"
            )
        document["guards_code"] = []
        module = document["graph_module"]
        module["metadata"] = {}
        for node in module["graph"]["nodes"]:
            node["metadata"] = {}
        _check_strings(document, "", _rules(is_operator))
    except (AttributeError, KeyError, TypeError, RecursionError) as exc:
        raise BundleError(f"the graph of the .pt2 archive is not laid out as torch does: {exc!r}") from exc


def _rules(is_operator: Callable[[str], bool]) -> dict[str, Callable[[str], bool]]:
    """Return what a string must be, by the key of the object that holds it."""

    def path(text: str) -> bool:
        return _PATH.fullmatch(text) is not None

    return {
        "target": lambda text: text in SIZE_OPERATORS or is_operator(text),
        "expr_str": lambda text: len(text) <= MAX_EXPRESSION and _EXPRESSION.fullmatch(text) is not None,
        "in_spec": _is_tree,
        "out_spec": _is_tree,
        "as_float": lambda text: text in _NOT_FINITE,
        "as_floats": lambda text: text in _NOT_FINITE,
        "as_string": lambda text: _TEXT.fullmatch(text) is not None,
        "as_strings": lambda text: _TEXT.fullmatch(text) is not None,
        "torch_version": lambda text: _TORCH_VERSION.fullmatch(text) is not None,
        "fqn": path,
        "path_name": path,
        "parameter_name": path,
        "buffer_name": path,
        "tensor_constant_name": path,
    }


def _check_strings(value: object, key: str, rules: Mapping[str, Callable[[str], bool]]) -> None:
    """Hold every string below a value, and every key, against its rule; without one it has to be an identifier."""
    if isinstance(value, str):
        if not rules.get(key, _is_name)(value):
            raise BundleError(f"the .pt2 archive holds {key} {value[:128]!r}, which is not loaded")
    elif isinstance(value, list):
        for item in value:
            _check_strings(item, key, rules)
    elif isinstance(value, dict):
        for name, item in value.items():
            # a union writes the members that it has not as null
            if name in _NOT_TENSORS and item is not None:
                raise BundleError(f"the .pt2 archive holds {name}, and only tensors and their sizes are loaded")
            if not _PATH.fullmatch(name):
                raise BundleError(f"the .pt2 archive holds the name {name[:128]!r}, which is not loaded")
            _check_strings(item, name, rules)


def _is_name(text: str) -> bool:
    """Tell whether a text may be written into source as a name: torch writes them there as they stand."""
    return not text or (_IDENTIFIER.fullmatch(text) is not None and not keyword.iskeyword(text))


def _is_tree(text: str) -> bool:
    """Tell whether a tree specification is made of tuples, lists and dictionaries of strings, of nothing else."""
    try:
        protocol, tree = json.loads(text)
        return bool(protocol == 1) and all(_is_container(node) for node in _nodes(tree))
    except (ValueError, TypeError, KeyError):
        return False


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    yield tree
    for child in tree["children_spec"]:
        yield from _nodes(child)


def _is_container(node: dict[str, Any]) -> bool:
    if node["type"] is None:
        return node["context"] is None
    if node["type"] not in _CONTAINERS:
        return False
    context = json.loads(node["context"])
    if node["type"] == "builtins.dict":
        return isinstance(context, list) and all(isinstance(key, str) and _is_name(key) for key in context)
    return context is None


def _checked_table(table: dict[str, Any], parts: Mapping[str, bytes], folder: str) -> Iterator[str]:
    """Yield the paths of the raw tensors that a table names, once each one is known to lie inside its bytes."""
    try:
        _check_strings(table, "", _rules(lambda target: False))
        for name, entry in table["config"].items():
            path = folder + entry["path_name"]
            # `is not False`: anything else, as 1, torch may take for true
            if entry["use_pickle"] is not False or entry["tensor_meta"] is None:
                raise BundleError(f"{path} of the .pt2 archive is a pickle of {name}, which is not loaded")
            if not _RAW.fullmatch(path) or path not in parts:
                raise BundleError(f"the .pt2 archive has no tensor {path}, of {name}")
            _check_extent(entry["tensor_meta"], len(parts[path]), name)
            yield path
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as exc:
        raise BundleError(f"a table of tensors of the .pt2 archive is not laid out as torch does: {exc!r}") from exc


def _check_extent(meta: dict[str, Any], num_bytes: int, name: str) -> None:
    """Refuse a tensor that reaches beyond its bytes, or that would be made of nothing."""
    if meta["device"]["type"] != "cpu":
        raise BundleError(f"{name} of the .pt2 archive lies on {meta['device']['type']!r}: export it on the CPU")
    if meta["layout"] != _STRIDED or meta["dtype"] not in _ITEM_BYTES:
        raise BundleError(f"{name} of the .pt2 archive is of a layout or type that is not loaded")
    sizes, strides = ([_whole(number) for number in meta[key]] for key in ("sizes", "strides"))
    last = _whole(meta["storage_offset"]) + sum(
        (size - 1) * stride for size, stride in zip(sizes, strides, strict=True)
    )
    needed = 0 if 0 in sizes else (last + 1) * _ITEM_BYTES[meta["dtype"]]
    # without bytes torch makes zeros of whatever size is written
    if needed > num_bytes:
        raise BundleError(f"{name} of the .pt2 archive needs {needed} bytes, and there are {num_bytes}")


def _whole(number: dict[str, Any]) -> int:
    value = number["as_int"]
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r} is no size")
    return value


def _archive(parts: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in parts.items():
            # ZipInfo, not a name: without the time of day, so that the same graph gives the same bytes
            archive.writestr(zipfile.ZipInfo(f"archive/{name}"), content)
    return buffer.getvalue()
