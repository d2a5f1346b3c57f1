from pathlib import Path

from app import tasks
from app.bundle.loader import BundleRef
from app.protocols.open_inference import describe
from app.serving.versions import Model, State, Version
from app.settings import Settings
from tests.support.bundles import dummy_bundle, open_folder

LIMITS = tasks.Limits(max_instances=7, max_image_pixels=1000)


def version_of(folder: Path, state: State = State.READY) -> Version:
    bundle = open_folder(folder)
    ref = BundleRef(name=folder.parent.name, version=int(folder.name), folder=folder)
    return Version(ref=ref, bundle=bundle, state=state, backend_name="dummy", device="cpu")


def test_metadata_tell_whole_shapes_and_the_versions_that_are_ready(tmp_path: Path) -> None:
    versions = [version_of(dummy_bundle(tmp_path, version=n), state) for n, state in
                ((1, State.READY), (2, State.FAILED), (3, State.READY))]  # fmt: skip
    told = describe.model_metadata(Model(name="dummy", versions=versions), versions[2])
    assert told["versions"] == ["1", "3"]
    assert told["inputs"] == [{"name": "image", "datatype": "FP32", "shape": [-1, 2, 3]}]
    assert told["outputs"][0] == {"name": "logits", "datatype": "FP32", "shape": [-1, 3]}


def test_configuration_leaves_the_batch_out_and_tells_what_requests_may_hold(tmp_path: Path) -> None:
    version = version_of(dummy_bundle(tmp_path, max_rows=8, max_wait_ms=1.5))
    assert version.bundle is not None
    config = describe.model_config(version, tasks.create(version.bundle, LIMITS), Settings(max_instances=7, workers=3))
    assert config["max_batch_size"] == 8
    assert config["input"] == [
        {"name": "image", "data_type": "TYPE_FP32", "dims": [2, 3], "format": "FORMAT_NONE", "optional": False}
    ]
    assert config["dynamic_batching"] == {"preferred_batch_size": [8], "max_queue_delay_microseconds": 1500}
    assert config["instance_group"] == [{"name": "dummy", "kind": "KIND_CPU", "count": 3, "gpus": []}]
    assert config["default_model_filename"] == "dummy.json"
    assert config["parameters"]["max_rows_per_request"] == {"string_value": "7"}
    assert config["parameters"]["labels"] == {"string_value": '["a", "b", "c"]'}


def test_lengths_of_rows_have_empty_dims() -> None:
    version = version_of(Path("models/rnn/1"))
    assert version.bundle is not None
    config = describe.model_config(version, tasks.create(version.bundle, LIMITS), Settings())
    assert [entry["dims"] for entry in config["input"] if entry["name"] == "lengths"] == [[]]
    assert config["parameters"]["max_elements_per_batch"] == {"string_value": "928"}
    assert "natural_input" not in config["parameters"]
