"""The command: options in, a bundle or one clear error out."""

import json

import pytest

from tests.support.foreign import prove_as_served, scorer
from training import cli

ARGUMENTS = [
    "--task", "tabular_classification", "--labels", "a, b", "--features", "f,g,h", "--low", "0", "--high", "9",
    "--description", "Of somebody.", "--license", "MIT",
]  # fmt: skip


def run(capsys, *arguments):
    try:
        code = cli.main(["package", *map(str, arguments)])
    except SystemExit as exc:
        code = exc.code
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_a_bundle_is_written_and_told(capsys, tmp_path):
    path = scorer(tmp_path / "a.onnx")
    code, out, err = run(capsys, path, *ARGUMENTS, "--models-dir", tmp_path / "models")
    assert (code, err) == (0, "")
    assert out.endswith(f"wrote {tmp_path / 'models' / 'a' / '1'}\n")
    bundle, _ = prove_as_served(tmp_path / "models" / "a" / "1")
    assert bundle.manifest.task.labels == ("a", "b")
    assert str(tmp_path) not in json.dumps(bundle.manifest.model_dump(mode="json"))


def test_what_is_missing_is_one_error_with_an_example(capsys, tmp_path):
    code, out, err = run(capsys, scorer(tmp_path / "a.onnx"), "--models-dir", tmp_path / "models")
    assert (code, out) == (2, "")
    assert err.startswith("error: 3 things are missing: description, license, task;")
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--task", "magic"], "--task"),
        (["--network", "{"], "--network"),
        (["--network", "[]"], "--network"),
        (["--max-rows", "0"], "--max-rows"),
        (["--max-rows", "9999"], "max_rows"),
        (["--mean", "1"], "std"),
        (["--labels", "a,a"], "labels"),
        (["--low", "nan"], "low"),
        (["--config", "none.toml"], "none.toml"),
        (["--golden", "none.npz"], "none.npz"),
    ],
    ids=" ".join,
)
def test_a_mistake_is_named_and_exits_with_2(capsys, tmp_path, arguments, named):
    path = scorer(tmp_path / "a.onnx")
    code, _, err = run(capsys, path, *ARGUMENTS, *arguments, "--models-dir", tmp_path / "models")
    assert code == 2
    assert named in err.splitlines()[-1]
    assert "Traceback" not in err
