"""Exported programs that would run code where they were loaded as they are; each would make a folder."""

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

Parts = dict[str, bytes]
GRAPH = "models/model.json"
WEIGHTS = "data/weights/model_weights_config.json"
CONSTANTS = "data/constants/model_constants_config.json"
SAMPLES = "data/sample_inputs/model.pt"


class _Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self._folder),)


def parts_of(data: bytes) -> Parts:
    """Return the parts of an archive, by their path below its root."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def archive_of(parts: Parts, *, root: str = "archive/") -> bytes:
    """Write an archive of parts."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in parts.items():
            archive.writestr(f"{root}{name}", content)
    return buffer.getvalue()


def edited(parts: Parts, path: str, edit: Callable[[dict[str, Any]], object]) -> Parts:
    """Return parts with one JSON document changed."""
    document = json.loads(parts[path])
    edit(document)
    return {**parts, path: json.dumps(document).encode()}


def saved(folder: Path) -> bytes:
    """Return the bomb as `torch.save` writes it."""
    buffer = io.BytesIO()
    torch.save(_Bomb(folder), buffer)
    return buffer.getvalue()


def _source(folder: Path) -> str:
    return f"__import__('os').mkdir({str(folder)!r})"


def sample_inputs(parts: Parts, folder: Path) -> bytes:
    return archive_of({**parts, SAMPLES: saved(folder)})


def pickled_weight(parts: Parts, folder: Path) -> bytes:
    def edit(document: dict[str, Any]) -> None:
        next(iter(document["config"].values()))["use_pickle"] = True

    changed = edited(parts, WEIGHTS, edit)
    first = next(iter(json.loads(parts[WEIGHTS])["config"].values()))["path_name"]
    return archive_of({**changed, f"data/weights/{first}": saved(folder)})


def truthy_pickled_weight(parts: Parts, folder: Path) -> bytes:
    """As above, with a one where the schema has true."""

    def edit(document: dict[str, Any]) -> None:
        next(iter(document["config"].values()))["use_pickle"] = 1

    first = next(iter(json.loads(parts[WEIGHTS])["config"].values()))["path_name"]
    return archive_of({**edited(parts, WEIGHTS, edit), f"data/weights/{first}": saved(folder)})


def _constant(parts: Parts, path_name: str, content: bytes) -> bytes:
    entry = {"path_name": path_name, "is_param": False, "use_pickle": True, "tensor_meta": None}
    changed = edited(parts, CONSTANTS, lambda document: document["config"].update(c=entry))
    return archive_of({**changed, f"data/constants/{path_name}": content})


def pickled_constant(parts: Parts, folder: Path) -> bytes:
    return _constant(parts, "tensor_0", saved(folder))


def opaque_object(parts: Parts, folder: Path) -> bytes:
    return _constant(parts, "opaque_obj_0", pickle.dumps(_Bomb(folder)))


def script_object(parts: Parts, folder: Path) -> bytes:
    return _constant(parts, "custom_obj_0", pickle.dumps(_Bomb(folder)))


def legacy_weights(parts: Parts, folder: Path) -> bytes:
    return archive_of({**parts, "data/weights/model.pt": saved(folder)})


def legacy_constants(parts: Parts, folder: Path) -> bytes:
    return archive_of({**parts, "data/constants/model.pt": saved(folder)})


def older_layout(parts: Parts, folder: Path) -> bytes:
    """The layout before 2.8, to which torch falls back."""
    content = {
        "version": b"8.20",
        "serialized_exported_program.json": parts[GRAPH],
        "serialized_state_dict.pt": saved(folder),
        "serialized_constants.pt": saved(folder),
        "serialized_example_inputs.pt": saved(folder),
    }
    return archive_of(content, root="")


def _graph(parts: Parts, edit: Callable[[dict[str, Any]], object]) -> bytes:
    return archive_of(edited(parts, GRAPH, edit))


def size_expression(parts: Parts, folder: Path) -> bytes:
    def edit(document: dict[str, Any]) -> None:
        for value in document["graph_module"]["graph"]["tensor_values"].values():
            for size in value["sizes"]:
                if "as_expr" in size:
                    size["as_expr"]["expr_str"] = _source(folder)

    return _graph(parts, edit)


def guard(parts: Parts, folder: Path) -> bytes:
    return _graph(parts, lambda document: document.update(guards_code=[_source(folder)]))


def operator(parts: Parts, folder: Path) -> bytes:
    """A node that calls a function of Python's own, found through torch."""

    def edit(document: dict[str, Any]) -> None:
        nodes = document["graph_module"]["graph"]["nodes"]
        call = {
            "target": "torch.serialization.os.mkdir",
            "inputs": [{"name": "", "arg": {"as_string": str(folder)}, "kind": 1}],
            "outputs": [],
            "metadata": {},
            "name": "made",
        }
        nodes.insert(0, call)

    return _graph(parts, edit)


def file_operator(parts: Parts, folder: Path) -> bytes:
    """A node of ATen that makes a file."""

    def edit(document: dict[str, Any]) -> None:
        graph = document["graph_module"]["graph"]
        call = {
            "target": "torch.ops.aten.from_file.default",
            "inputs": [
                {"name": "filename", "arg": {"as_string": str(folder)}, "kind": 1},
                {"name": "shared", "arg": {"as_bool": True}, "kind": 1},
                {"name": "size", "arg": {"as_int": 8}, "kind": 1},
            ],
            "outputs": [{"as_tensor": {"name": "made"}}],
            "metadata": {},
            "name": "made",
        }
        graph["nodes"].insert(0, call)
        graph["tensor_values"]["made"] = next(iter(graph["tensor_values"].values()))

    return _graph(parts, edit)


def name_of_a_node(parts: Parts, folder: Path) -> bytes:
    """Names are written into source as they stand."""
    graph = json.loads(parts[GRAPH])["graph_module"]["graph"]
    name = graph["nodes"][0]["name"]
    bad = f"{name} = {_source(folder)} or None; {name}"
    text = parts[GRAPH].decode().replace(json.dumps(name), json.dumps(bad))
    return archive_of({**parts, GRAPH: text.encode()})


def name_of_a_weight(parts: Parts, folder: Path) -> bytes:
    """What is no identifier is written into source between quotes, without being escaped."""
    name = next(iter(json.loads(parts[WEIGHTS])["config"]))
    bad = f'x" if {_source(folder)} else "y'
    return archive_of(
        {path: content.replace(json.dumps(name).encode(), json.dumps(bad).encode()) for path, content in parts.items()}
    )


def tree(parts: Parts, folder: Path) -> bytes:
    """A tree specification that imports a module, which makes the folder."""
    spec = [1, {"type": "builtins.dict", "context": json.dumps([{"__enum__": True, "fqn": "bad:X", "name": "a"}])}]
    spec[1]["children_spec"] = [{"type": None, "context": None, "children_spec": []}]  # type: ignore[index]

    def edit(document: dict[str, Any]) -> None:
        document["graph_module"]["module_call_graph"][0]["signature"]["in_spec"] = json.dumps(spec)

    folder.parent.joinpath("bad.py").write_text(_source(folder))
    return _graph(parts, edit)


def library(parts: Parts, folder: Path) -> bytes:
    """A compiled part, a shared library, which is no library here."""
    return archive_of({**parts, "data/aotinductor/model/model.so": str(folder).encode()})


ATTACKS: dict[str, Callable[[Parts, Path], bytes]] = {
    attack.__name__: attack
    for attack in (
        sample_inputs, pickled_weight, truthy_pickled_weight, pickled_constant, opaque_object, script_object,
        legacy_weights, legacy_constants, older_layout, size_expression, guard, operator, file_operator,
        name_of_a_node, name_of_a_weight, tree, library,
    )
}  # fmt: skip
# what is dropped, as it is no part of what is served; everything else is refused
DROPPED = ("sample_inputs", "guard")
