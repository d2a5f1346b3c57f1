from pathlib import Path

import pytest
from pydantic import ValidationError

from app import cpus
from app.cpus import num_cores
from app.errors import SettingsError
from app.settings import Settings


def read(**environ: str) -> Settings:
    return Settings.from_environ(environ)


def test_an_empty_environment_gives_the_defaults() -> None:
    settings = read()
    assert settings == Settings()
    assert (settings.port, settings.models_dir, settings.backend) == (8000, Path("models"), "auto")
    assert (settings.required_models, settings.default_model) == ((), None)


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_default_is_a_value_that_can_be_set(name: str) -> None:
    default = getattr(Settings(), name)
    text = {(): "", None: None}.get(default, str(default))
    if text is not None:
        assert getattr(read(**{f"ZTO_{name.upper()}": text}), name) == default


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_documented(name: str) -> None:
    assert (Settings.model_fields[name].description or "").endswith(".")


def test_what_belongs_to_others_is_passed_over() -> None:
    assert read(PATH="/bin", HOME="/root", ZTOX="1", BACKEND="nonsense", TIMEOUT_MS="x") == Settings()


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("ZTO_PROT", "; did you mean ZTO_PORT?"),
        ("ZTO_MODEL_DIR", "; did you mean ZTO_MODELS_DIR?"),
        ("ZTO_port", "; did you mean ZTO_PORT?"),
        ("ZTO_Max_Instances", "; did you mean ZTO_MAX_INSTANCES?"),
        ("ZTO_XYZZY", ""),
        ("ZTO_", ""),
    ],
)
def test_an_unknown_name_is_an_error_with_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read(**{name: "1"})
    assert str(caught.value) == f"unknown setting {name}{hint}"


def test_platforms_names_are_taken_and_the_prefixed_win() -> None:
    assert read(PORT="81", MODELS_DIR="/a") == Settings(port=81, models_dir=Path("/a"))
    assert read(PORT="81", MODELS_DIR="/a", ZTO_PORT="82", ZTO_MODELS_DIR="/b") == Settings(
        port=82, models_dir=Path("/b")
    )
    assert read(ZTO_PORT="82", PORT="81").port == 82


@pytest.mark.parametrize(
    ("text", "models"), [("", ()), ("cnn", ("cnn",)), ("cnn,mlp", ("cnn", "mlp")), (" cnn , ,mlp, ", ("cnn", "mlp"))]
)
def test_lists_are_separated_by_commas(text: str, models: tuple[str, ...]) -> None:
    assert read(ZTO_REQUIRED_MODELS=text).required_models == models
    assert Settings(required_models=models).required_models == models


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ZTO_PORT", "-1"),
        ("ZTO_PORT", "65536"),
        ("ZTO_PORT", "http"),
        ("ZTO_PORT", ""),
        ("PORT", "http"),
        ("ZTO_BACKEND", "ONNX"),
        ("ZTO_BACKEND", "../x"),
        ("ZTO_BACKEND", "onnx-"),
        ("ZTO_BACKEND", "onnx-int8-int8"),
        ("ZTO_ALLOW_TORCHSCRIPT", "perhaps"),
        ("ZTO_WORKERS", "0"),
        ("WORKERS", "-1"),
        ("WORKERS", "Auto"),
        ("ZTO_THREADS", "0"),
        ("ZTO_THREADS", "all"),
        ("ZTO_RUN_ON", "gpu"),
        ("ZTO_MAX_BODY_BYTES", "1023"),
        ("ZTO_MAX_INSTANCES", "0"),
        ("ZTO_MAX_QUEUE_ROWS", "0"),
        ("ZTO_TIMEOUT_MS", "0"),
        ("ZTO_TIMEOUT_MS", "3600001"),
        ("ZTO_DRAIN_S", "-0.1"),
        ("ZTO_DRAIN_S", "nan"),
        ("ZTO_SHUTDOWN_S", "0"),
        ("ZTO_SHUTDOWN_S", "inf"),
        ("ZTO_LOG_LEVEL", "loud"),
    ],
)
def test_an_impossible_value_is_an_error_that_names_variable_and_value(name: str, value: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read(**{name: value})
    assert str(caught.value).startswith(f"{name}={value!r}: ")


@pytest.mark.parametrize("key", ["auto", "onnx", "onnx-int8", "state_dict", "torch_export"])
def test_a_backend_is_asked_for_by_the_key_of_an_artifact(key: str) -> None:
    assert read(ZTO_BACKEND=key).backend == key


@pytest.mark.parametrize(("text", "allowed"), [("1", True), ("true", True), ("0", False)])
def test_torchscript_is_off_unless_it_is_allowed(text: str, allowed: bool) -> None:
    assert read().allow_torchscript is False
    assert read(ZTO_ALLOW_TORCHSCRIPT=text).allow_torchscript is allowed


def test_auto_takes_a_worker_for_each_core_and_shares_the_cores_among_them() -> None:
    cores = num_cores()
    assert read(WORKERS="auto").workers == cores
    assert read(WORKERS="auto").threads == 1
    assert read(ZTO_THREADS="auto").threads == cores
    assert read(WORKERS="auto", ZTO_THREADS="auto").threads == 1
    assert read(WORKERS="2", ZTO_WORKERS="3", ZTO_THREADS="auto").workers == 3
    assert read(WORKERS="256", ZTO_THREADS="auto").threads == max(1, cores // 256)


def test_auto_stays_within_the_bounds_however_many_cores_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpus, "num_cores", lambda: 2000)
    assert read(WORKERS="auto").workers == 256
    assert read(ZTO_THREADS="auto").threads == 1024
    assert read(WORKERS="auto", ZTO_THREADS="auto").threads == 2000 // 256


def test_every_impossible_value_is_named_at_once() -> None:
    with pytest.raises(SettingsError, match=r"ZTO_PORT='x': .*; ZTO_THREADS='0': ") as caught:
        read(ZTO_PORT="x", ZTO_THREADS="0", ZTO_HOST="::")
    assert "HOST" not in str(caught.value)


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().port = 1  # type: ignore[misc]


def test_a_queue_that_could_never_take_the_largest_request_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"ZTO_MAX_QUEUE_ROWS \(10\) must be at least ZTO_MAX_INSTANCES \(11\)"):
        read(ZTO_MAX_QUEUE_ROWS="10", ZTO_MAX_INSTANCES="11")
    assert read(ZTO_MAX_QUEUE_ROWS="10", ZTO_MAX_INSTANCES="10").max_queue_rows == 10


def test_a_backend_may_be_that_of_one_model() -> None:
    settings = read(ZTO_BACKEND="cnn=onnx-int8,mlp=state_dict,onnx")
    assert [settings.backend_of(name) for name in ("cnn", "mlp", "lstm")] == ["onnx-int8", "state_dict", "onnx"]
    assert settings.backends == {"cnn": "onnx-int8", "mlp": "state_dict"}
    assert read(ZTO_BACKEND="cnn=onnx-int8").backend_of("mlp") == "auto"
    assert read(ZTO_BACKEND="onnx-int8").backend_of("mlp") == "onnx-int8"


@pytest.mark.parametrize(
    "value", ["", ",", "cnn=", "=onnx", "cnn=onnx,", "cnn=onnx=int8", "Cnn=onnx", "onnx,auto", "cnn=onnx,cnn=auto"]
)
def test_backends_that_make_no_sense_are_refused(value: str) -> None:
    with pytest.raises(SettingsError, match="ZTO_BACKEND"):
        read(ZTO_BACKEND=value)


def test_tuning_is_on_or_off() -> None:
    assert [read(ZTO_TUNING=value).tuning for value in ("on", "off")] == [True, False]
    with pytest.raises(SettingsError, match="ZTO_TUNING='perhaps'"):
        read(ZTO_TUNING="perhaps")
