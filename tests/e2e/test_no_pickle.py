"""Nothing from outside is unpickled, or run: all code is walked for what could, and each exception has a reason.

What the formats of models may carry is held by tests of their own: `tests/unit/app/bundle/test_pt2.py` (archives of
torch.export), `tests/unit/app/backends/test_registry.py` (TorchScript is off), `tests/unit/app/bundle/test_golden.py`
(golden rows), `tests/unit/training/package/test_torch_files.py` (somebody's own weights).
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("app", "training", "clients/python/src")
# whose import is told, whatever is called of it
MODULES = {
    "pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "jsonpickle", "pickletools",
    "multiprocessing", "torch.multiprocessing", "skops",
}  # fmt: skip
# by the end of their dotted name; the keyword that makes a call harmless, and its value
CALLS: dict[str, tuple[str, object] | None] = {
    "torch.load": ("weights_only", True),
    "np.load": ("allow_pickle", False),
    "numpy.load": ("allow_pickle", False),
    "jit.load": None,
    "export.load": None,
    "yaml.load": None,
    "yaml.unsafe_load": None,
    "read_pickle": None,
    "ProcessPoolExecutor": None,
    "eval": None,
    "exec": None,
}

REASONS = {
    ("app/workers/board.py", "multiprocessing"): "open files that a parent hands to the worker that it starts",
    ("app/backends/torch_export.py", "export.load"): "is given only what app.bundle.pt2 has read and written anew",
    (
        "app/backends/torchscript.py",
        "jit.load",
    ): "a program, off unless ZTO_ALLOW_TORCHSCRIPT says its maker is trusted",
    ("training/export/torch_export.py", "export.load"): "of the archive that the same run has just written",
    ("training/export/torchscript.py", "jit.load"): "of the file that the same run has just written",
    ("training/package/torch_file.py", "export.load"): "is given only what app.bundle.pt2 has read and written anew",
    ("training/package/torch_file.py", "jit.load"): "only with --allow-torchscript, as its own code is trusted",
    ("training/package/weights_file.py", "pickle"): "for the class of its error; torch reads with weights_only=True",
}


def findings(code: str) -> Iterator[str]:
    """Yield what could unpickle or run what it is given."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from filter(None, (listed(alias.name) for alias in node.names))
        elif isinstance(node, ast.ImportFrom):
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from filter(None, (listed(name) for name in whole))
        elif isinstance(node, ast.Call):
            yield from told(node)


def listed(module: str) -> str | None:
    """Return the entry of MODULES that a module, or a name in it, belongs to."""
    return next((name for name in MODULES if module == name or module.startswith(f"{name}.")), None)


def told(call: ast.Call) -> Iterator[str]:
    name = ast.unparse(call.func)
    if name == "safetensors.torch.load":  # a format without code
        return
    if name.endswith(".recv") and not call.args and not call.keywords:
        yield "recv()"  # of a multiprocessing connection, which unpickles; a socket's takes a size
    for dangerous, harmless in CALLS.items():
        is_it = name == dangerous if dangerous in ("eval", "exec") else f".{name}".endswith(f".{dangerous}")
        given = {keyword.arg: getattr(keyword.value, "value", None) for keyword in call.keywords}
        if is_it and (harmless is None or harmless[0] not in given or given[harmless[0]] is not harmless[1]):
            yield dangerous


def test_all_that_could_unpickle_or_run_what_it_is_given_has_a_reason() -> None:
    found = {
        (path.relative_to(ROOT).as_posix(), what)
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
        for what in findings(path.read_text())
    }
    assert found == set(REASONS)
    assert all(REASONS.values())


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("import pickle", ["pickle"]),
        ("from multiprocessing import connection", ["multiprocessing"]),
        ("import multiprocessing.shared_memory as m", ["multiprocessing"]),
        ("from torch import multiprocessing", ["torch.multiprocessing"]),
        ("torch.load(f)", ["torch.load"]),
        ("torch.load(f, weights_only=False)", ["torch.load"]),
        ("torch.load(f, weights_only=maybe)", ["torch.load"]),
        ("torch.load(f, map_location='cpu', weights_only=True)", []),
        ("safetensors.torch.load(f)", []),
        ("np.load(f)", ["np.load"]),
        ("np.load(f, allow_pickle=True)", ["np.load"]),
        ("np.load(f, allow_pickle=0)", ["np.load"]),
        ("np.load(f, allow_pickle=False)", []),
        ("torch.jit.load(f)", ["jit.load"]),
        ("pandas.read_pickle(f)", ["read_pickle"]),
        ("eval('1')", ["eval"]),
        ("network.eval()", []),
        ("pipe.recv()", ["recv()"]),
        ("sock.recv(1)", []),
        ("json.load(f)", []),
    ],
)
def test_the_walk_sees_what_it_is_to_see(code: str, what: list[str]) -> None:
    assert list(findings(code)) == what
