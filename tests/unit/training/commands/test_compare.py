from tests.support.committed import LATEST, MODELS, copy_as_first


def test_every_bundle_of_the_repository_stands_in_the_table(command):
    code, out, _ = command("compare", "--models-dir", MODELS)
    assert code == 0
    lines = out.splitlines()
    assert lines[0].split()[:3] == ["model", "task", "data"]
    assert all(any(line.startswith(f"{ref.name}/{ref.version} ") for line in lines) for ref in LATEST.values())


def test_a_damaged_bundle_hides_no_other(command, told, tmp_path):
    copy_as_first("numpy_mlp", tmp_path)
    (tmp_path / "broken" / "3").mkdir(parents=True)
    (tmp_path / "broken" / "4").mkdir(parents=True)
    (tmp_path / "broken" / "4" / "manifest.json").write_text("{}")
    code, out, _ = command("compare", "--models-dir", tmp_path)
    assert code == 0
    assert "accuracy 0.97" in out
    assert "damaged: broken/3: manifest.json cannot be read" in out
    assert "damaged: broken/4: manifest.json is not valid" in out
    found = told("compare", "--models-dir", tmp_path)
    assert {row["model"] for row in found["artifacts"]} == {"numpy_mlp/1"}
    assert [each["model"] for each in found["damaged"]] == ["broken/3", "broken/4"]


def test_no_bundles_are_no_table(command, tmp_path):
    assert command("compare", "--models-dir", tmp_path) == (0, f"no bundles in {tmp_path}\n", "")


def test_a_folder_that_is_not_there_is_an_error(refused, tmp_path):
    assert "cannot be read: No such file" in refused("compare", "--models-dir", tmp_path / "none")
