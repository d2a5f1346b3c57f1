import json

import pytest

from tests.support.bundles import write_file_with_digest
from tests.support.committed import MODELS
from training import bundling, config, data, pipeline
from training.problems import text_classification


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("artifact", [None, "onnx", "state_dict"])
def test_each_artifact_reaches_what_the_manifest_says(command, models_dir, artifact):
    options = [] if artifact is None else ["--artifact", artifact]
    code, out, err = command("evaluate", "mlp", *options, "--models-dir", models_dir)
    assert code == 0, err
    assert out.startswith(f"{artifact or 'onnx'} of mlp/1 over the test split of Fashion-MNIST\n")
    assert out.endswith("as the manifest says\n")


@pytest.mark.parametrize("bundle", ["numpy_mlp", "numpy_regression/2"])
def test_committed_tables_reach_what_their_manifests_say(told, bundle):
    found = told("evaluate", bundle, "--models-dir", MODELS)
    assert found["differing"] == []
    assert set(found["measured"]) == set(found["stated"])
    assert found["rows"] == {"numpy_mlp": 114, "numpy_regression/2": 89}[bundle]


@pytest.mark.usefixtures("small")
def test_a_manifest_that_says_otherwise_is_told_with_exit_status_1(command, models_dir, edited):
    edited(lambda manifest: manifest["metrics"].update(macro_f1=0.999))
    code, out, _ = command("evaluate", "mlp", "--models-dir", models_dir)
    assert code == 1
    assert "stated 0.999: differs" in out
    assert out.endswith("differs from the manifest in macro_f1\n")
    code, out, _ = command("evaluate", "mlp", "--models-dir", models_dir, "--json")
    assert (code, json.loads(out)["differing"]) == (1, ["macro_f1"])
    assert command("evaluate", "mlp", "--models-dir", models_dir, "--tolerance", 0.9)[0] == 0


@pytest.mark.usefixtures("small")
def test_what_is_not_stated_is_not_compared(command, models_dir, edited):
    def forget(manifest):
        manifest["metrics"] = {}
        for artifact in manifest["artifacts"]:
            artifact["test_accuracy"] = None

    edited(forget)
    code, out, _ = command("evaluate", "mlp", "--models-dir", models_dir)
    assert code == 0
    assert out.endswith("nothing was compared\n")


@pytest.mark.usefixtures("small")
def test_a_variant_is_held_against_its_own_accuracy_alone(command, told, models_dir, edited):
    edited(lambda manifest: manifest["artifacts"][0].update(variant="int8"))
    edited(lambda manifest: manifest["golden"]["tolerance"].update({"onnx-int8": {"atol": 0.1}}))
    found = told("evaluate", "mlp", "--artifact", "onnx-int8", "--models-dir", models_dir)
    assert set(found["stated"]) == {"accuracy"}
    edited(lambda manifest: manifest["artifacts"][0].update(test_accuracy=0.001))
    assert command("evaluate", "mlp", "--artifact", "onnx-int8", "--models-dir", models_dir)[0] == 1


@pytest.mark.usefixtures("small")
def test_texts_are_read_as_the_bundle_reads_them_whatever_the_recipe_says_by_now(told, tmp_path, monkeypatch):
    recipe = config.recipe("lstm", epochs=2)
    problem = pipeline.problem_of(recipe, data.load("spam_assassin"))
    bundling.export(pipeline.train(recipe, problem), problem, tmp_path, variants=(), explained=False)
    other = {**text_classification.OPTIONS, "vocab_size": 60, "max_tokens": 9, "max_chars": 20}
    monkeypatch.setattr(text_classification, "OPTIONS", other)
    assert pipeline.problem_of(recipe, problem.data).files() != problem.files()
    found = told("evaluate", "lstm", "--models-dir", tmp_path)
    assert (found["rows"], found["differing"]) == (40, [])


@pytest.mark.usefixtures("small")
def test_a_damaged_artifact_is_named(refused, models_dir):
    path = models_dir / "mlp" / "1" / "model.onnx"
    path.write_bytes(path.read_bytes()[:-1])
    assert "model.onnx is not the file that the manifest describes" in refused(
        "evaluate", "mlp", "--models-dir", models_dir
    )


@pytest.mark.usefixtures("small")
def test_a_file_that_its_runtime_refuses_is_named(refused, models_dir):
    write_file_with_digest(models_dir / "mlp" / "1", "model.onnx", b"no graph")
    line = refused("evaluate", "mlp", "--models-dir", models_dir)
    assert line.startswith("error: onnx of mlp/1: ")


@pytest.mark.usefixtures("small")
def test_a_hostile_exported_program_is_refused_before_torch_reads_it(refused, models_dir, edited):
    write_file_with_digest(models_dir / "mlp" / "1", "model.onnx", b"no archive")
    edited(lambda manifest: manifest["artifacts"][0].update(format="torch_export"))
    edited(lambda manifest: manifest["golden"]["tolerance"].update(torch_export={"atol": 0.1}))
    assert "torch_export of mlp/1: " in refused("evaluate", "mlp", "--models-dir", models_dir)


@pytest.mark.usefixtures("small")
def test_torchscript_is_run_only_where_it_is_trusted(refused, models_dir, edited):
    edited(lambda manifest: manifest["artifacts"][0].update(format="torchscript"))
    edited(lambda manifest: manifest["golden"]["tolerance"].update(torchscript={"atol": 0.1}))
    assert "--trust-torchscript" in refused("evaluate", "mlp", "--models-dir", models_dir)
    line = refused("evaluate", "mlp", "--trust-torchscript", "--models-dir", models_dir)
    assert line.startswith("error: torchscript of mlp/1: ")


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda manifest: manifest["training"]["data"]["files"].update(slice="f" * 64), "of other digests"),
        (lambda manifest: manifest["outputs"].pop(), "has other inputs or outputs than the recipe 'mlp'"),
        (lambda manifest: manifest.update(metrics="good"), "manifest.json is not valid"),
    ],
    ids=["data", "outputs", "manifest"],
)
def test_a_bundle_that_is_not_of_these_data_is_refused(refused, models_dir, edited, change, named):
    edited(change)
    assert named in refused("evaluate", "mlp", "--models-dir", models_dir)


@pytest.mark.usefixtures("small")
def test_a_bundle_that_no_recipe_made_is_refused(refused, models_dir, edited):
    (models_dir / "mlp").rename(models_dir / "mine")
    manifest = models_dir / "mine" / "1" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"name": "mlp",\n  "version"', '"name": "mine",\n  "version"'))
    assert "there is no recipe 'mine' to tell its data set" in refused("evaluate", "mine", "--models-dir", models_dir)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["gnn"], "there is no bundle 'gnn'"),
        (["numpy_mlp", "--artifact", "onnx-int4"], "the bundle has no 'onnx-int4' artifact, it has: onnx, state_dict"),
        (["numpy_mlp", "--tolerance", "nan"], "--tolerance must be 0 or more"),
        (["numpy_mlp", "--data-dir", "none"], "none"),
    ],
    ids=str,
)
def test_what_cannot_be_is_named(refused, arguments, named):
    assert named in refused("evaluate", *arguments, "--models-dir", MODELS)


@pytest.mark.slow
@pytest.mark.usefixtures("small")
def test_a_network_that_draws_pictures_again_reaches_its_stated_error(command, told):
    assert command("train", "autoencoder", "--epochs", 1, "--no-explanations")[0] == 0
    found = told("evaluate", "autoencoder")
    assert set(found["stated"]) == {"mse", "r2"}
    assert found["measured"] == pytest.approx(found["stated"], rel=1e-4)
    assert found["differing"] == []
