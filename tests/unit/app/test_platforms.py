from pathlib import Path

import pytest

from app import platforms
from app.errors import SettingsError
from app.settings import Settings


def read(**environ: str) -> Settings:
    return Settings.from_environ(environ)


def bundle(models_dir: Path) -> Path:
    (models_dir / "cnn" / "1").mkdir(parents=True)
    (models_dir / "cnn" / "1" / "manifest.json").write_text("{}")
    return models_dir


@pytest.mark.parametrize(("variable", "field"), platforms.NAMES)
def test_a_name_of_a_platform_is_its_setting(variable: str, field: str) -> None:
    value = "/a/b" if field.endswith(("route", "dir")) else "81"
    expected = {"port": 81, "workers": 81, "models_dir": Path(value)}.get(field, value)
    assert getattr(read(**{variable: value}), field) == expected


@pytest.mark.parametrize(("variable", "field"), platforms.NAMES)
def test_the_prefixed_name_wins_over_every_platforms(variable: str, field: str) -> None:
    ours, theirs = ("/a/b", "/c/d") if field.endswith(("route", "dir")) else ("81", "82")
    both = read(**{variable: theirs, f"ZTO_{field.upper()}": ours})
    assert both == read(**{f"ZTO_{field.upper()}": ours})


def test_what_one_platform_alone_sets_wins_over_what_many_do() -> None:
    ports = ["PORT", "CONTAINER_APP_PORT", "SAGEMAKER_BIND_TO_PORT", "AIP_HTTP_PORT"]
    environ = {name: str(81 + number) for number, name in enumerate(ports)}
    for number in range(len(ports)):
        assert read(**{name: environ[name] for name in ports[: number + 1]}).port == 81 + number
        assert read(**dict(reversed([(name, environ[name]) for name in ports[: number + 1]]))).port == 81 + number


def test_a_fault_names_the_variable_that_the_platform_set() -> None:
    with pytest.raises(SettingsError, match=r"^AIP_HTTP_PORT='http': "):
        read(AIP_HTTP_PORT="http", PORT="81")


def test_names_of_platforms_that_are_no_settings_are_passed_over() -> None:
    vertex = {"AIP_STORAGE_URI": "gs://bucket/models", "AIP_MODE": "PREDICTION", "AIP_PROJECT_NUMBER": "1"}
    others = {"K_SERVICE": "x", "CONTAINER_APP_NAME": "x", "FLY_APP_NAME": "x", "SAGEMAKER_CONTAINER_LOG_LEVEL": "20"}
    assert read(**vertex, **others) == Settings()


@pytest.mark.parametrize(
    "route",
    ["/health", "/", "/a-b_c.d~e/f:g", "/v1/endpoints/123/deployedModels/456", "/v1", "/predictions", "/modelsx"],
)
def test_a_path_of_a_platform_may_be_any(route: str) -> None:
    assert read(AIP_PREDICT_ROUTE=f"{route}:predict").predict_route == f"{route}:predict"
    if route != "/":
        assert read(AIP_HEALTH_ROUTE=route).health_route == route


@pytest.mark.parametrize("route", ["", "health", "/a b", "/{model}", "/a?b=c", "/a#b", "/%41", "/ä", "/" + "a" * 512])
def test_what_is_no_path_is_refused(route: str) -> None:
    for name in ("AIP_HEALTH_ROUTE", "AIP_PREDICT_ROUTE"):
        with pytest.raises(SettingsError, match=rf"^{name}=.*: String should match pattern"):
            read(**{name: route})


@pytest.mark.parametrize(
    ("name", "route"),
    [
        ("AIP_HEALTH_ROUTE", "/"),
        ("AIP_HEALTH_ROUTE", "/livez"),  # would call an unready service healthy
        ("AIP_HEALTH_ROUTE", "/metrics"),
        ("AIP_HEALTH_ROUTE", "/models"),
        ("AIP_HEALTH_ROUTE", "/models/cnn"),
        ("AIP_HEALTH_ROUTE", "/v1/models"),
        ("AIP_HEALTH_ROUTE", "/v2/models/cnn"),
        ("ZTO_HEALTH_ROUTE", "/openapi.json"),
        ("AIP_PREDICT_ROUTE", "/"),
        ("AIP_PREDICT_ROUTE", "/metrics"),
        ("AIP_PREDICT_ROUTE", "/readyz"),
        ("AIP_PREDICT_ROUTE", "/models/cnn"),
        ("AIP_PREDICT_ROUTE", "/v1/models/cnn:explain"),
        ("AIP_PREDICT_ROUTE", "/v2/models/cnn/infer"),
        ("AIP_PREDICT_ROUTE", "/predict/cnn/x"),
        ("ZTO_PREDICT_ROUTE", "/docs"),
    ],
)
def test_a_path_that_the_service_answers_otherwise_is_refused(name: str, route: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read(**{name: route})
    assert str(caught.value) == f"{name}={route!r}: the service answers this path otherwise already; take another one"


@pytest.mark.parametrize("route", ["/readyz", "/ping", "/v1/models/cnn", "/v2/health/ready", "/v2/models/cnn/ready"])
def test_a_platform_may_ask_a_door_of_ours_for_readiness(route: str) -> None:
    assert read(AIP_HEALTH_ROUTE=route).health_route == route


@pytest.mark.parametrize(
    "route", ["/predict", "/predict/cnn", "/invocations", "/score", "/v1/models/cnn:predict", "/models/cnn/invoke"]
)
def test_a_platform_may_ask_a_door_of_ours_for_predictions(route: str) -> None:
    assert read(AIP_PREDICT_ROUTE=route).predict_route == route


def test_bundles_are_found_where_platforms_put_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sagemaker, kserve = tmp_path / "opt", tmp_path / "mnt"
    monkeypatch.setattr(platforms, "MODEL_PLACES", (sagemaker, kserve))
    assert read().models_dir == Path("models")
    bundle(kserve)
    assert read().models_dir == kserve
    sagemaker.mkdir()  # is there, and empty: SageMaker without a model's data
    assert read().models_dir == kserve
    bundle(sagemaker)
    assert read().models_dir == sagemaker


def test_a_folder_that_is_named_is_taken_whatever_platforms_put_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platforms, "MODEL_PLACES", (bundle(tmp_path / "opt"),))
    assert read(MODELS_DIR="/a").models_dir == Path("/a")
    assert read(ZTO_MODELS_DIR="/b", AZUREML_MODEL_DIR=str(bundle(tmp_path / "azure"))).models_dir == Path("/b")


def test_azures_variable_names_the_bundles_or_the_folder_above_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platforms, "MODEL_PLACES", (bundle(tmp_path / "opt"),))
    mounted = tmp_path / "azureml-models" / "bundles" / "1"
    registered = bundle(mounted / "models")
    assert read(AZUREML_MODEL_DIR=str(mounted)).models_dir == registered
    assert read(AZUREML_MODEL_DIR=str(registered)).models_dir == registered
    for nothing in ("", str(tmp_path / "nowhere"), str(registered / "cnn" / "1" / "manifest.json")):
        assert read(AZUREML_MODEL_DIR=nothing).models_dir == tmp_path / "opt"
