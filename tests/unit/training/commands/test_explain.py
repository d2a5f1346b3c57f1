import json
import shutil

import pytest

from tests.support.committed import MODELS, copy_as_first


@pytest.mark.usefixtures("small")
def test_pictures_and_figures_go_into_a_folder_and_the_bundle_stays(command, models_dir, tmp_path, digests):
    before = digests(models_dir)
    code, out, err = command("explain", "mlp", "--rows", 16, "--models-dir", models_dir, "--output", tmp_path / "out")
    assert code == 0, err
    assert digests(models_dir) == before
    folder = tmp_path / "out" / "report" / "explain"
    assert sorted(path.name for path in folder.iterdir()) == ["deletion.png", "figures.json", "pictures.png"]
    figures = json.loads((folder / "figures.json").read_text())
    assert all(f"{name} {value:.4f}" in out for name, value in figures.items())
    assert out.endswith(f"wrote 3 files to {tmp_path / 'out'}\n")


def test_a_table_is_explained_into_build_where_nothing_else_is_said(told, tmp_path):
    copy_as_first("numpy_mlp", tmp_path / "models")
    found = told("explain", "numpy_mlp/1", "--models-dir", tmp_path / "models")
    assert (found["bundle"], found["output"]) == ("numpy_mlp/1", "build/explain/numpy_mlp/1")
    assert found["figures"]["integrated gradients/like shapley"] > 0.9
    assert (tmp_path / "build" / "explain" / "numpy_mlp" / "1" / "report" / "explain" / "permutation.png").exists()


@pytest.mark.usefixtures("no_data")
@pytest.mark.parametrize(
    ("bundle", "named"),
    [
        ("gnn", "there is no bundle 'gnn'"),
        ("numpy_mlp/7", "there is no bundle 'numpy_mlp/7'"),
        ("numpy_mlp/one", "write NAME or NAME/VERSION"),
        ("../models", "write NAME or NAME/VERSION"),
        ("cnn", "Fashion-MNIST is not in"),
    ],
)
def test_a_bundle_or_data_that_are_not_there_are_named(refused, bundle, named):
    assert named in refused("explain", bundle, "--models-dir", MODELS)


def test_nothing_is_written_among_bundles(refused, tmp_path, digests):
    models = shutil.copytree(MODELS / "numpy_mlp", tmp_path / "models" / "numpy_mlp").parent
    before = digests(models)
    for output in (models, models / "numpy_mlp" / "1", tmp_path):
        line = refused("explain", "numpy_mlp", "--models-dir", models, "--output", output)
        assert "choose another --output" in line
    assert digests(models) == before


def test_a_bundle_without_weights_of_its_network_cannot_be_explained(refused, models_dir, edited, small):
    edited(lambda manifest: manifest["artifacts"].pop())
    assert "has no 'state_dict' artifact" in refused("explain", "mlp", "--models-dir", models_dir)


def test_one_row_alone_has_no_error_of_its_mean_and_is_refused(refused):
    assert "--rows: must be a whole number of at least 2" in refused("explain", "cnn", "--rows", 1)
