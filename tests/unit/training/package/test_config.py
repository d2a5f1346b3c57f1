"""What is said, by options and in a file."""

import pytest

from training.errors import PackageRefused
from training.package.config import Config, read_config

SAID = """
task = "tabular_classification"
labels = ["a", "b"]
golden = "rows.npz"

[[features]]
name = "f"
minimum = 0
unit = "cm"

[[features]]
name = "g"
"""


def test_options_win_over_the_file_whose_paths_are_relative_to_it(tmp_path):
    (tmp_path / "package.toml").write_text(SAID)
    config = read_config(tmp_path / "package.toml", {"labels": ["c", "d"], "license": None, "seed": 3})
    assert (config.task, config.labels, config.license, config.seed) == ("tabular_classification", ("c", "d"), None, 3)
    assert config.golden == tmp_path / "rows.npz"
    assert [(feature.name, feature.minimum, feature.unit) for feature in config.features] == [
        ("f", 0, "cm"),
        ("g", None, None),
    ]
    assert [feature.name for feature in read_config(None, {"features": ["x", "y"]}).features] == ["x", "y"]
    assert read_config(None, {}) == Config()


def test_unknown_keys_and_impossible_values_are_all_named(tmp_path):
    (tmp_path / "package.toml").write_text(
        'label = ["a"]\nlabels = ["a", "a"]\ntask = "magic"\nstd = 0.0\nmean = 0.0\n'
    )
    with pytest.raises(PackageRefused) as caught:
        read_config(tmp_path / "package.toml", {})
    told = str(caught.value)
    assert "label: there is no such key; there are: name, version" in told
    assert "labels: Value error, labels must be distinct" in told
    assert "task: Input should be" in told
    assert "std: Input should be greater than 0" in told


@pytest.mark.parametrize("content", [b"task = ", b"\xff", b"a = 1\na = 2"])
def test_a_file_that_is_no_toml_is_refused(tmp_path, content):
    (tmp_path / "package.toml").write_bytes(content)
    with pytest.raises(PackageRefused, match=r"package.toml cannot be read"):
        read_config(tmp_path / "package.toml", {})
    with pytest.raises(PackageRefused, match=r"none.toml cannot be read"):
        read_config(tmp_path / "none.toml", {})


@pytest.mark.parametrize("given", [{"mean": 1.0}, {"std": 1.0}])
def test_mean_and_std_go_together(given):
    with pytest.raises(PackageRefused, match=r"mean and std go together"):
        read_config(None, given)
