import io
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from app.backends.torch_export import is_operator, load
from app.errors import BackendUnavailable, BundleError
from tests.support import hostile
from tests.support.bundles import open_folder, write_file_with_digest
from tests.support.exported import MAX_STEPS, exported, exported_bundle, recurrent, series, series_bundle

FILE = "model.torch_export"
# what torch runs of them, at the version that was looked at; the others fail there on their way
RUN_BY_TORCH = [
    "sample_inputs", "pickled_weight", "truthy_pickled_weight", "pickled_constant", "opaque_object", "legacy_weights",
    "legacy_constants", "older_layout", "size_expression", "file_operator", "tree",
]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return exported_bundle(tmp_path / "models", "mlp", "torch_export")


@pytest.fixture
def attack(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[bytes, Path]:
    """A hostile archive, and what it makes when it has its way."""
    made = tmp_path / "made"
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "bad", raising=False)
    return hostile.ATTACKS[request.param](hostile.parts_of(exported("mlp", "torch_export")), made), made


@pytest.mark.parametrize("attack", RUN_BY_TORCH, indirect=True)
@pytest.mark.filterwarnings("ignore")
def test_torch_alone_runs_what_an_archive_carries(attack: tuple[bytes, Path]) -> None:
    """The danger is real: without it, what follows would prove nothing."""
    data, made = attack
    with suppress(Exception):  # most attacks leave nothing that could be served
        torch.export.load(io.BytesIO(data)).module()(torch.zeros(2, 28, 28))
    assert made.exists()


@pytest.mark.parametrize("attack", sorted(set(hostile.ATTACKS) - set(hostile.DROPPED)), indirect=True)
def test_an_archive_that_carries_code_is_refused_and_nothing_runs(folder: Path, attack: tuple[bytes, Path]) -> None:
    data, made = attack
    write_file_with_digest(folder, FILE, data)
    with pytest.raises(BundleError, match=r"the \.pt2 archive"):
        load(open_folder(folder), threads=1)
    assert not made.exists()


@pytest.mark.parametrize("attack", hostile.DROPPED, indirect=True)
def test_what_serving_does_not_need_is_never_opened(folder: Path, attack: tuple[bytes, Path]) -> None:
    """Every file of `torch.export.save` carries pickled sample inputs; it is served without them."""
    data, made = attack
    write_file_with_digest(folder, FILE, data)
    bundle = open_folder(folder)
    golden = bundle.golden()
    outputs = load(bundle, threads=1).run(golden.inputs)
    assert np.allclose(outputs["probabilities"], golden.outputs["probabilities"], atol=1e-6)
    assert not made.exists()


def test_a_program_that_torch_saved_itself_is_served(folder: Path) -> None:
    """With sample inputs, stack traces, guards: as a user's own file is."""

    class Scores(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution = nn.Conv2d(1, 2, 3)
            self.norm = nn.BatchNorm2d(2)
            self.relu = nn.ReLU(inplace=True)
            self.head = nn.Linear(2, 10)

        def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            maps = self.relu(self.norm(self.convolution(image[:, None])))
            logits = self.head(nn.functional.adaptive_avg_pool2d(maps, 1).flatten(1))
            return logits, nn.functional.gelu(logits, approximate="tanh").softmax(-1)

    module = Scores().eval()
    images = torch.rand(3, 28, 28)
    program = torch.export.export(module, (images,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},))
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    write_file_with_digest(folder, FILE, buffer.getvalue())
    backend = load(open_folder(folder), threads=1)
    for rows in (1, 3):
        expected = module(images[:rows])
        outputs = backend.run({"image": images[:rows].numpy()})
        assert np.allclose(outputs["logits"], expected[0].detach(), atol=1e-6)


@pytest.mark.parametrize(
    "target",
    [
        "torch.ops.aten.linear.default", "torch.ops.aten.conv2d.default", "torch.ops.aten.add.Tensor",
        "torch.ops.aten.gelu.default", "torch.ops.aten.relu_.default", "torch.ops.aten._softmax.default",
        "torch.ops.aten.lstm.input", "torch.ops.aten.embedding.default", "torch.ops.aten.sym_size.int",
        "torch.ops.aten.scaled_dot_product_attention.default", "torch.ops.aten.zeros.default",
    ],
)  # fmt: skip
def test_operators_on_tensors_are_known(target: str) -> None:
    assert is_operator(target)


@pytest.mark.parametrize(
    "target",
    [
        "torch.ops.aten.from_file.default", "torch.ops.aten.save.default", "torch.ops.aten.no_such.default",
        "torch.ops.aten.linear", "torch.ops.aten.linear.no_such", "torch.ops.aten.linear.__call__",
        "torch.ops.aten.__class__.default", "torch.ops.aten.linear.default.__call__", "torch.ops.load_library",
        "torch.ops.prims.add.default", "torch.ops.higher_order.cond", "torch.hub.load", "torch.load", "os.system",
        "torch.ops.aten._foreach_add.List", "torch.ops.aten.linear.default\n", "",
    ],
)  # fmt: skip
def test_nothing_else_is_an_operator(target: str) -> None:
    assert not is_operator(target)


@pytest.mark.parametrize("data", [b"", b"garbage", b"PK\x03\x04" + b"\0" * 100])
def test_what_is_no_archive_is_refused(folder: Path, data: bytes) -> None:
    write_file_with_digest(folder, FILE, data or b"\0")
    with pytest.raises(BundleError, match=r"this is no \.pt2 archive"):
        load(open_folder(folder), threads=1)


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
def test_a_graph_that_lacks_its_weights_is_refused(folder: Path) -> None:
    parts = hostile.parts_of((folder / FILE).read_bytes())
    parts = hostile.edited(parts, hostile.WEIGHTS, lambda document: document["config"].popitem())
    write_file_with_digest(folder, FILE, hostile.archive_of(parts))
    with pytest.raises(BundleError, match="torch refuses the exported program"):
        load(open_folder(folder), threads=1)


def test_shorter_series_are_padded_to_the_steps_that_the_program_fixes(tmp_path: Path) -> None:
    bundle = open_folder(series_bundle(tmp_path))
    assert bundle.artifact("torch_export").fixed_axes == {"time": MAX_STEPS}
    backend, given = load(bundle, threads=1), series(4)
    whole = backend.run(given)
    steps = int(given["lengths"].max())
    assert steps < MAX_STEPS
    short = backend.run({"series": given["series"][:, :steps].copy(), "lengths": given["lengths"]})
    with torch.inference_mode():
        expected = recurrent()(*(torch.from_numpy(array) for array in given.values()))[0].numpy()
    assert np.allclose(whole["logits"], expected, atol=1e-6)
    assert np.array_equal(whole["logits"], short["logits"])


def test_series_longer_than_the_program_fixes_raise_and_leave_it_well(tmp_path: Path) -> None:
    backend = load(open_folder(series_bundle(tmp_path)), threads=1)
    given = series(2)
    longer = {"series": np.repeat(given["series"], 2, axis=1), "lengths": given["lengths"]}
    with pytest.raises(ValueError, match=r"'series' has the shape \(2, 12, 4\), and this artifact takes no more than"):
        backend.run(longer)
    assert backend.run(given)["logits"].shape == (2, 3)


def test_threads_are_those_that_were_asked_for(folder: Path) -> None:
    load(open_folder(folder), threads=2)
    assert torch.get_num_threads() == 2
    load(open_folder(folder), threads=1)
    assert torch.get_num_threads() == 1


def test_without_torch_the_extra_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(BackendUnavailable, match=r"needs torch: pip install 'zero-to-one\[torch\]'"):
        load(open_folder(folder), threads=1)


def test_inputs_of_another_shape_raise_and_leave_it_well(folder: Path) -> None:
    backend = load(open_folder(folder), threads=1)
    with pytest.raises(Exception, match=r"(?i)shape|size|expected"):
        backend.run({"image": np.zeros((1, 5, 5), np.float32)})
    assert backend.run({"image": np.zeros((1, 28, 28), np.float32)})["logits"].shape == (1, 10)
