import numpy as np
import pytest

pytestmark = pytest.mark.usefixtures("small")


def test_the_curve_and_a_suggestion_are_printed(command):
    code, out, err = command("lr-find", "mlp", "--steps", 40)
    assert code == 0, err
    head, *lines, last = out.splitlines()
    assert head.split() == ["learning", "rate", "training", "loss"]
    assert 10 < len(lines) <= 40
    assert lines[0].split()[0] == "1.00e-06"
    assert last.startswith("suggestion: --learning-rate ")


def test_json_holds_every_step_and_the_plot_is_an_svg(told, tmp_path):
    found = told("lr-find", "mlp", "--steps", 60, "--highest", 100, "--plot", tmp_path / "curve.svg")
    assert len(found["rates"]) == len(found["losses"]) <= 60
    assert np.all(np.diff(found["rates"]) > 0)
    assert found["suggestion"] == pytest.approx(found["rates"][int(np.argmin(found["losses"]))] / 10)
    assert min(found["losses"]) < 0.8 * found["losses"][0]
    assert (tmp_path / "curve.svg").read_bytes().startswith(b"<?xml")


def test_it_finds_the_same_twice_and_trains_nothing(told, tmp_path):
    assert told("lr-find", "mlp", "--steps", 30) == told("lr-find", "mlp", "--steps", 30)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["gnn"], "gnn"),
        (["numpy_mlp"], "numpy_mlp is a NumPy network"),
        (["mlp", "--lowest", "1", "--highest", "0.1"], "lowest must be above 0 and below highest"),
        (["mlp", "--steps", "1"], "num_steps must be 2 or more"),
        (["mlp", "--lowest", "100", "--highest", "1000"], "the loss fell at no learning rate"),
        (["mlp", "--plot", "none/curve.svg"], "there is no folder none"),
        (["mlp", "--batch-size", "0"], "--batch-size"),
        (["mlp", "--epochs", "3"], "unrecognized arguments: --epochs 3"),
    ],
    ids=str,
)
def test_what_cannot_be_is_named(refused, arguments, named):
    assert named in refused("lr-find", *arguments)


def test_missing_data_are_told_with_how_to_get_them(refused, tmp_path, monkeypatch):
    monkeypatch.undo()
    assert "Fashion-MNIST is not in" in refused("lr-find", "mlp", "--data-dir", tmp_path)
