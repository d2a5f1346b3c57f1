"""TorchScript, exported programs and weights: packaged, and nothing hostile is opened."""

import io
import os
import pickle
import zipfile

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from app.bundle.manifest import TensorSpec
from tests.support.foreign import SAID, ask, prove_as_served, word_pieces
from training import architectures
from training.errors import PackageRefused, SettingsMissing
from training.export.torchscript import quiet_jit
from training.package.bundle import package
from training.package.config import Config

TABLE = {"task": "tabular_classification", "labels": ["a", "b"], "features": ["f", "g", "h"], "low": 0, "high": 9}
INPUTS = {"inputs": (TensorSpec(name="x", dtype="float32", shape=("batch", 3)),)}
ROW = {"features": {"f": 1, "g": 2, "h": 3}}


class Scorer(nn.Module):
    """Logits of rows, in the form that is asked for."""

    def __init__(self, form="tensor", features=3):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(features, 2)
        self.form = form

    def forward(self, x):
        logits = self.layer(x.flatten(1))
        if self.form == "tuple":
            return logits, x.sum(1)
        return {"logits": logits} if self.form == "dict" else logits


def packaged(path, tmp_path, **said):
    return package(path, Config(**(SAID | said)), tmp_path / "models")


def scripted(tmp_path, module, *examples, name="a.pt"):
    with quiet_jit():
        traced = torch.jit.trace(module.eval(), examples, strict=False)
        torch.jit.save(traced, tmp_path / name)
    return tmp_path / name


def exported(tmp_path, module, *examples, axes=None):
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(module.eval(), examples, dynamic_shapes=axes or tuple({0: batch} for _ in examples))
    torch.export.save(program, tmp_path / "a.pt2")
    return tmp_path / "a.pt2"


def expected(module, rows):
    with torch.inference_mode():
        logits = module.eval()(torch.tensor(rows, dtype=torch.float32))
    logits = logits["logits"] if isinstance(logits, dict) else logits[0] if isinstance(logits, tuple) else logits
    return torch.softmax(logits, 1).numpy()


def scores(predictions):
    return np.array([list(prediction["probabilities"].values()) for prediction in predictions])


def test_torchscript_is_not_opened_unless_it_is_trusted(tmp_path):
    path = scripted(tmp_path, Scorer(), torch.zeros(2, 3))
    with pytest.raises(PackageRefused, match=r"a program that runs when it is opened; say --allow-torchscript"):
        packaged(path, tmp_path, **TABLE, **INPUTS)


@pytest.mark.parametrize("form", ["tensor", "tuple", "dict"])
def test_torchscript_answers_in_whatever_form(tmp_path, form):
    module = Scorer(form)
    path = scripted(tmp_path, module, torch.zeros(2, 3))
    names = {"tensor": "output", "tuple": "output_0", "dict": "logits"}
    said = TABLE | INPUTS | {"scores": "logits", "scores_output": names[form], "allow_torchscript": True}
    folder = packaged(path, tmp_path, **said, scale=0.5)
    assert scores(ask(folder, ROW)) == pytest.approx(expected(module, [[0.5, 1, 1.5]]), abs=1e-5)
    assert [artifact.format for artifact in prove_as_served(folder)[0].manifest.artifacts] == ["torchscript"]


def test_torchscript_is_asked_for_its_inputs(tmp_path):
    path = scripted(tmp_path, Scorer(), torch.zeros(2, 3))
    with pytest.raises(SettingsMissing, match="one thing is missing: inputs"):
        packaged(path, tmp_path, **TABLE, allow_torchscript=True)
    wrong = {"inputs": (TensorSpec(name="x", dtype="float32", shape=("batch", 7)),)}
    with pytest.raises(PackageRefused, match="cannot be called with x float32"):
        packaged(path, tmp_path, **TABLE, **wrong, allow_torchscript=True)


@pytest.mark.parametrize("form", ["tensor", "tuple", "dict"])
def test_an_exported_program_tells_its_inputs_itself(tmp_path, form):
    module = Scorer(form)
    path = exported(tmp_path, module, torch.zeros(2, 3))
    names = {"tensor": "output", "tuple": "output_0", "dict": "logits"}
    folder = packaged(path, tmp_path, **TABLE, scores="logits", scores_output=names[form])
    assert scores(ask(folder, ROW)) == pytest.approx(expected(module, [[1, 2, 3]]), abs=1e-5)


def test_an_exported_picture_model_gets_its_channel(tmp_path):
    module = Scorer(features=6)
    path = exported(tmp_path, module, torch.zeros(2, 1, 2, 3))
    said = {"task": "image_classification", "labels": ["a", "b"], "scores": "logits", "scale": 1 / 255}
    image = [[0, 255, 51], [102, 0, 0]]
    predictions = ask(packaged(path, tmp_path, **said), {"image": image})
    assert scores(predictions) == pytest.approx(expected(module, [[0, 1, 0.2, 0.4, 0, 0]]), abs=1e-5)


def test_an_exported_program_of_tensors_keeps_its_names_and_open_axes(tmp_path):
    class Sums(nn.Module):
        def forward(self, x, y):
            return {"twice": x * 2, "sum": (x + y).sum(1)}

    batch, steps = torch.export.Dim("batch", min=1), torch.export.Dim("steps", min=1)
    axes = ({0: batch, 1: steps}, {0: batch})
    path = exported(tmp_path, Sums(), torch.zeros(2, 3), torch.zeros(2, 1), axes=axes)
    said = {"task": "tensors", "low": -1, "high": 1}
    with pytest.raises(SettingsMissing, match="one thing is missing: max_lengths") as caught:
        packaged(path, tmp_path, **said)
    axis = str(caught.value).rpartition('"')[0].rpartition('"')[2]
    folder = packaged(path, tmp_path, **said, max_lengths={axis: 8})
    assert ask(folder, {"inputs": {"x": [1, 0.5, 0], "y": [1]}}) == [{"outputs": {"twice": [2, 1, 0], "sum": 4.5}}]


def test_an_exported_program_of_one_fixed_batch_is_told_how_to_be_exported(tmp_path):
    program = torch.export.export(Scorer().eval(), (torch.zeros(2, 3),))
    torch.export.save(program, tmp_path / "a.pt2")
    with pytest.raises(PackageRefused, match=r"one fixed batch only: the first axis of 'x' is fixed; .*dynamic_shapes"):
        packaged(tmp_path / "a.pt2", tmp_path, **TABLE)


class Hostile:
    """Makes a file where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_hostile_archive_is_inspected_before_torch_opens_it(tmp_path):
    path = exported(tmp_path, Scorer(), torch.zeros(2, 3))
    trap = tmp_path / "trapped"
    with zipfile.ZipFile(path) as old:
        parts = {name: old.read(name) for name in old.namelist()}
    root = next(iter(parts)).partition("/")[0]
    for name in ("data/weights/model.pt", "data/constants/model.pt", "serialized_exported_program.json"):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as new:
            for part, content in (parts | {f"{root}/{name}": pickle.dumps(Hostile(trap))}).items():
                new.writestr(part, content)
        path.write_bytes(buffer.getvalue())
        with pytest.raises(PackageRefused, match="archive holds"):
            packaged(path, tmp_path, **TABLE)
    assert not trap.exists()


@pytest.mark.parametrize("name", ["a.pth", "a.pt", "a.bin"])
@pytest.mark.parametrize("as_zip", [True, False])
def test_a_hostile_pickle_is_refused_and_not_opened(tmp_path, name, as_zip):
    trap = tmp_path / "trapped"
    torch.save({"weight": Hostile(trap)}, tmp_path / name, _use_new_zipfile_serialization=as_zip)
    with pytest.raises(PackageRefused, match=r"a pickle of more than tensors.*not opened.*state_dict"):
        packaged(tmp_path / name, tmp_path, architecture="mlp")
    (tmp_path / name).write_bytes(pickle.dumps(Hostile(trap)))
    with pytest.raises(PackageRefused):
        packaged(tmp_path / name, tmp_path, architecture="mlp")
    assert not trap.exists()


NETWORKS = {
    "mlp": (
        {"height": 2, "width": 3, "hidden": [4], "num_classes": 2},
        {"task": "image_classification"},
        {"image": [[1, 2, 3]] * 2},
    ),
    "numpy_mlp": (
        {"num_features": 3, "hidden": [4]},
        {key: TABLE[key] for key in ("task", "features", "low", "high")},
        ROW,
    ),
    "rnn": (
        {"num_channels": 2, "hidden": 4, "num_classes": 2},
        {"task": "sequence_classification", "max_length": 6, "low": -1, "high": 1},
        {"sequence": [[0.5, 1], [0, 0]]},
    ),
}  # fmt: skip


def network_of(name):
    torch.manual_seed(0)
    return architectures.build(name, NETWORKS[name][0]).eval()


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_of_a_registered_architecture_become_both_artifacts(tmp_path, name, suffix):
    settings, said, instance = NETWORKS[name]
    path = tmp_path / f"weights{suffix}"
    state = network_of(name).state_dict()
    if suffix == ".pth":
        torch.save({"epoch": 3, "state_dict": state}, path)
    else:
        safetensors.torch.save_file(state, path)
    folder = packaged(path, tmp_path, **said, labels=["a", "b"], architecture=name, network=settings)
    bundle, _ = prove_as_served(folder)
    assert [artifact.key for artifact in bundle.manifest.artifacts] == ["onnx", "state_dict"]
    assert bundle.manifest.architecture.name == name
    assert scores(ask(folder, instance, backend="onnx")) == pytest.approx(
        scores(ask(folder, instance, backend="state_dict")), abs=1e-5
    )


def test_weights_without_their_network_ask_for_it_beside_all_else(tmp_path):
    torch.save(network_of("mlp").state_dict(), tmp_path / "a.pth")
    with pytest.raises(SettingsMissing, match="4 things are missing: description, license, architecture, task"):
        package(tmp_path / "a.pth", Config(), tmp_path)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"architecture": "gnn"}, "there is no architecture 'gnn'"),
        ({"architecture": "mlp", "network": {"depth": 3}}, "has no config field 'depth'"),
        ({"architecture": "mlp", "network": {"hidden": [5]}}, "are not those of this mlp"),
        ({"architecture": "cnn"}, "are not those of this cnn"),
    ],
)
def test_weights_of_another_network_are_refused(tmp_path, said, message):
    torch.save(network_of("mlp").state_dict(), tmp_path / "a.pth")
    with pytest.raises(PackageRefused, match=message):
        packaged(tmp_path / "a.pth", tmp_path, task="image_classification", labels=["a", "b"], **said)


def test_scaling_is_refused_where_the_network_scales_itself(tmp_path):
    torch.save(network_of("mlp").state_dict(), tmp_path / "a.pth")
    settings, said, _ = NETWORKS["mlp"]
    with pytest.raises(PackageRefused, match="scales its inputs by its own config"):
        packaged(
            tmp_path / "a.pth", tmp_path, **said, labels=["a", "b"], architecture="mlp", network=settings, scale=2.0
        )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.safetensors", b"nothing", "no safetensors file"),
        ("a.pth", b"", "cannot be read"),
        ("a.pth", b"PK\x03\x04nothing", "cannot be read"),
        ("a.pt2", b"nothing", "is refused: this is no .pt2 archive"),
    ],
)
def test_damaged_files_are_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PackageRefused, match=message):
        packaged(tmp_path / name, tmp_path, architecture="mlp")


@pytest.mark.parametrize("saved", [[1, 2], {"a": 1}, {}, torch.zeros(2)])
def test_a_file_without_named_tensors_is_refused(tmp_path, saved):
    torch.save(saved, tmp_path / "a.pth")
    with pytest.raises(PackageRefused, match="holds no state_dict"):
        packaged(tmp_path / "a.pth", tmp_path, architecture="mlp")


def test_weights_of_a_text_network_take_a_tokenizer(tmp_path):
    (tmp_path / "tokenizer.json").write_text(word_pieces())
    network = {"vocab_size": 100, "width": 16, "heads": 2, "layers": 1, "mlp_width": 16, "max_tokens": 12}
    torch.manual_seed(0)
    torch.save(architectures.build("transformer", network).state_dict(), tmp_path / "a.pth")
    said = {"task": "text_classification", "labels": ["a", "b"], "architecture": "transformer", "network": network}
    with pytest.raises(SettingsMissing, match="2 things are missing: tokenizer, max_tokens"):
        packaged(tmp_path / "a.pth", tmp_path, **said)
    folder = packaged(tmp_path / "a.pth", tmp_path, **said, tokenizer=tmp_path / "tokenizer.json", max_tokens=12)
    texts = [{"text": "a good film"}, {"text": "bad"}]
    assert scores(ask(folder, *texts, backend="onnx")) == pytest.approx(
        scores(ask(folder, *texts, backend="state_dict")), abs=1e-5
    )
