"""The chart as helm reads it, and its manifests as Kubernetes would; `make check-deploy` brings the tools."""

import base64
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from deploy.render import CHART, MANIFESTS, RELEASE, ROOT, examples, helm, render
from tests.support.kubernetes import KSERVE_OWN, environ, insecurities, manifests, only, pod_spec, read

pytestmark = pytest.mark.needs_helm

EXAMPLES = examples()
# the oldest that the chart installs on, and the newest that is known
VERSIONS = ("1.30", "1.37")
# kinds that others bring to a cluster: Kubernetes itself has no schema of them
FOREIGN = {"InferenceService", "ServingRuntime", "ServiceMonitor"}
ANONYMOUS: dict[str, Any] = {"access": {"anonymous": True}}

each_example = pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
each_version = pytest.mark.parametrize("version", VERSIONS)


def run_helm(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([helm(), *words], capture_output=True, text=True, check=False)


def install(folder: Path, values: dict[str, Any], release: str = RELEASE) -> list[dict[str, Any]]:
    """Return the resources of a release with these values."""
    done = refuse_or_render(folder, values, release)
    assert done.returncode == 0, done.stderr
    return manifests(done.stdout)


def refuse_or_render(folder: Path, values: dict[str, Any], release: str = RELEASE) -> subprocess.CompletedProcess[str]:
    file = folder / "values.json"
    file.write_text(json.dumps(values))
    return run_helm("template", release, CHART, "--values", file)


def service_of(resources: list[dict[str, Any]]) -> dict[str, Any]:
    (container,) = only(resources, "Deployment")["spec"]["template"]["spec"]["containers"]
    return container


@each_example
def test_helm_has_nothing_to_say_against_the_chart(example: Path) -> None:
    done = run_helm("lint", "--strict", CHART, "--values", example)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[WARNING]" not in done.stdout


@each_example
def test_the_plain_manifests_are_what_the_chart_renders(example: Path) -> None:
    assert (MANIFESTS / example.name).read_text() == render(example), "run 'make manifests'"


def test_every_plain_manifest_has_its_example() -> None:
    assert {path.name for path in MANIFESTS.iterdir()} == {example.name for example in EXAMPLES}


def expect_valid(resource: dict[str, Any], version: str) -> None:
    """Hold a resource against the schema of Kubernetes; one that is not in it, or misses what it asks for, raises."""
    import kubernetes_validate

    kubernetes_validate.validate(resource, version, strict=True)


@each_version
@pytest.mark.parametrize("name", sorted(read(MANIFESTS)))
def test_kubernetes_knows_all_that_the_manifests_say(name: str, version: str) -> None:
    known = [resource for resource in read(MANIFESTS)[name] if resource["kind"] not in FOREIGN]
    assert {"Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy", "ServiceAccount"} <= {
        resource["kind"] for resource in known
    }
    for resource in known:
        expect_valid(resource, version)


@each_version
def test_what_kserve_hands_on_is_known_to_kubernetes(version: str) -> None:
    """A predictor is the spec of a pod and some fields of KServe's own, whose schema is not at hand."""
    for resources in read(ROOT / "deploy" / "kserve").values():
        for resource in resources:
            pod = pod_spec(resource, resources)
            if pod is not None:
                expect_valid({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": pod}, version)
                expect_known_to_kserve(resource["spec"]["predictor"], version)


def expect_known_to_kserve(predictor: dict[str, Any], version: str) -> None:
    """Hold the fields of KServe's own to the types that its source gives them."""
    own = {name: value for name, value in predictor.items() if name in KSERVE_OWN}
    numbers = {own.pop(name, 1) for name in ("minReplicas", "maxReplicas", "scaleTarget")}
    assert all(isinstance(number, int) and number > 0 for number in numbers)
    assert own.pop("scaleMetric", "cpu") in ("cpu", "memory", "concurrency", "rps")
    if (strategy := own.pop("deploymentStrategy", None)) is not None:
        template = {"metadata": {"labels": {"x": "y"}}, "spec": {"containers": [{"name": "x", "image": "x"}]}}
        spec = {"selector": {"matchLabels": {"x": "y"}}, "template": template, "strategy": strategy}
        expect_valid({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x"}, "spec": spec}, version)
    if (model := own.pop("model", None)) is not None:
        assert set(model) <= {"modelFormat", "protocolVersion", "storageUri", "runtime"}
        assert "name" in model["modelFormat"]
    assert own == {}


@pytest.mark.parametrize("field", ["replica", "minReadySecond"])
def test_a_misspelled_field_is_found(field: str, tmp_path: Path) -> None:
    import kubernetes_validate

    deployment = only(install(tmp_path, ANONYMOUS), "Deployment")
    deployment["spec"][field] = 1
    with pytest.raises(kubernetes_validate.ValidationError, match=field):
        expect_valid(deployment, VERSIONS[-1])


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({}, "choose who may ask"),
        ({"access": {"anonymous": True, "secret": "keys"}}, "exclude each other"),
        (ANONYMOUS | {"replica": 3}, "additional properties 'replica' not allowed"),
        (ANONYMOUS | {"image": {"repository": "Registry/UPPER"}}, "/image/repository"),
        (ANONYMOUS | {"image": {"digest": "sha256:1234"}}, "/image/digest"),
        (ANONYMOUS | {"models": {"source": "bucket"}}, "/models/source"),
        (ANONYMOUS | {"models": {"source": "volume"}}, "/models/volume/claim"),
        (ANONYMOUS | {"models": {"source": "init"}}, "/models/init/image"),
        (ANONYMOUS | {"settings": {"PORT": 80}}, "'/settings': additional properties 'PORT' not allowed"),
        (ANONYMOUS | {"settings": {"ZTO_PORT": 80}}, "settings.ZTO_PORT belongs to the chart: set ports.http"),
        (ANONYMOUS | {"settings": {"ZTO_HOST": "::"}}, "settings.ZTO_HOST belongs to the chart"),
        (ANONYMOUS | {"settings": {"ZTO_ADMIN_KEY": "in-plain-sight"}}, "set access.secret"),
        (ANONYMOUS | {"settings": {"ZTO_SIGNING_KEY": "key.pub"}}, "set models.signingKey.configMap"),
        (ANONYMOUS | {"podLabels": {"app.kubernetes.io/name": "mine"}}, "podLabels.app.kubernetes.io/name belongs to"),
        ({"access": {"secret": "keys"}, "serviceMonitor": {"enabled": True}}, "serviceMonitor.key.secret is missing"),
        (ANONYMOUS | {"ports": {"http": 80}}, "/ports/http"),
        (ANONYMOUS | {"ports": {"grpc": 8000}}, "must differ"),
        (ANONYMOUS | {"shutdown": {"drainSeconds": -1}}, "/shutdown/drainSeconds"),
        (ANONYMOUS | {"resources": {"limits": None}}, "/resources"),
        (ANONYMOUS | {"autoscaling": {"minReplicas": 9}}, "autoscaling.minReplicas (9) is more than maxReplicas (8)"),
        (ANONYMOUS | {"podDisruptionBudget": {"maxUnavailable": 0}}, "/podDisruptionBudget/maxUnavailable"),
        (ANONYMOUS | {"ingress": {"enabled": True}}, "/ingress/host"),
        (ANONYMOUS | {"networkPolicy": {"from": [{}]}}, "/networkPolicy/from"),
    ],
    ids=lambda part: part if isinstance(part, str) else json.dumps(part),
)
def test_values_that_cannot_be_are_refused(values: dict[str, Any], reason: str, tmp_path: Path) -> None:
    done = refuse_or_render(tmp_path, values)
    assert done.returncode != 0
    assert reason in done.stderr


def test_keys_given_as_a_file_become_the_secret_that_is_mounted(tmp_path: Path) -> None:
    keys = '{"keys": []}\n'
    resources = install(tmp_path, {"access": {"keys": keys}}, release="edge")
    secret = only(resources, "Secret")
    assert base64.b64decode(secret["data"]["keys.json"]).decode() == keys
    volumes = only(resources, "Deployment")["spec"]["template"]["spec"]["volumes"]
    assert [v["secret"]["secretName"] for v in volumes if "secret" in v] == [secret["metadata"]["name"]]
    expect_valid(secret, VERSIONS[0])


def test_settings_come_as_they_were_written(tmp_path: Path) -> None:
    settings = {"ZTO_MAX_BODY_BYTES": 16777216, "ZTO_TUNING": False, "ZTO_REQUIRED_MODELS": "cnn,lstm",
                "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}  # fmt: skip
    variables = environ(service_of(install(tmp_path, ANONYMOUS | {"settings": settings})))
    assert {name: variables[name] for name in settings} == {
        "ZTO_MAX_BODY_BYTES": "16777216", "ZTO_TUNING": "false", "ZTO_REQUIRED_MODELS": "cnn,lstm",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318",
    }  # fmt: skip


def test_a_key_of_signatures_is_mounted_where_its_setting_says(tmp_path: Path) -> None:
    models = {"signingKey": {"configMap": "signing", "name": "ours.pub"}}
    deployment = only(install(tmp_path, ANONYMOUS | {"models": models}), "Deployment")
    expect_valid(deployment, VERSIONS[0])
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    (volume,) = [volume for volume in pod["volumes"] if "configMap" in volume]
    (mount,) = [mount for mount in container["volumeMounts"] if mount["name"] == volume["name"]]
    assert (volume["configMap"]["name"], mount["readOnly"]) == ("signing", True)
    (item,) = volume["configMap"]["items"]
    assert item["key"] == "ours.pub"
    assert environ(container)["ZTO_SIGNING_KEY"] == f"{mount['mountPath']}/{item['path']}"


def test_the_alerts_find_the_job_of_any_release(tmp_path: Path) -> None:
    """The operator takes the job from a label of the Service; else from its name, which has the release in it."""
    resources = install(tmp_path, ANONYMOUS | {"serviceMonitor": {"enabled": True}}, release="edge")
    monitor, service = only(resources, "ServiceMonitor"), only(resources, "Service")
    job = service["metadata"]["labels"][monitor["spec"]["jobLabel"]]
    rules = (ROOT / "deploy/observability/prometheus/rules/zero-to-one.yml").read_text()
    assert set(re.findall(r'job="([^"]+)"', rules)) == {job}


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({}, None),
        ({"ingress": {"enabled": True, "host": "a.example.com"}}, "the Ingress controller"),
        ({"serviceMonitor": {"enabled": True}}, "Prometheus"),
        ({"serviceMonitor": {"enabled": True}, "networkPolicy": {"from": [{"namespaceSelector": {}}]}}, None),
        ({"serviceMonitor": {"enabled": True}, "networkPolicy": {"enabled": False}}, None),
    ],
    ids=str,
)
def test_who_is_told_to_ask_and_is_not_let_in_is_named(
    values: dict[str, Any], named: str | None, tmp_path: Path
) -> None:
    file = tmp_path / "values.json"
    file.write_text(json.dumps(ANONYMOUS | values))
    done = run_helm("install", RELEASE, CHART, "--dry-run=client", "--values", file)
    assert done.returncode == 0, done.stderr
    notes = done.stdout.partition("NOTES:")[2]
    assert "is coming up" in notes
    assert ("networkPolicy.from" in notes) == (named is not None)
    assert named is None or f"name the namespace of {named} in networkPolicy.from" in notes


@pytest.mark.parametrize(("drain_s", "finish_s", "grace_s"), [(10, 30, 45), (0.5, 1, 7), (29.1, 86400, 86435)])
def test_the_grace_period_is_computed(drain_s: float, finish_s: int, grace_s: int, tmp_path: Path) -> None:
    shutdown = {"drainSeconds": drain_s, "finishSeconds": finish_s}
    resources = install(tmp_path, ANONYMOUS | {"shutdown": shutdown})
    assert only(resources, "Deployment")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == grace_s
    variables = environ(service_of(resources))
    assert (float(variables["ZTO_DRAIN_S"]), int(variables["ZTO_SHUTDOWN_S"])) == (drain_s, finish_s)


def test_a_digest_wins_over_the_tag(tmp_path: Path) -> None:
    digest = f"sha256:{'0123456789abcdef' * 4}"
    image = {"repository": "example.com:5000/zto", "tag": "7", "digest": digest}
    assert service_of(install(tmp_path, ANONYMOUS | {"image": image}))["image"] == f"example.com:5000/zto@{digest}"
    del image["digest"]
    assert service_of(install(tmp_path, ANONYMOUS | {"image": image}))["image"] == "example.com:5000/zto:7"


def test_nobody_may_ask_where_no_peer_is_named(tmp_path: Path) -> None:
    resources = install(tmp_path, ANONYMOUS | {"networkPolicy": {"from": []}})
    assert only(resources, "NetworkPolicy")["spec"]["ingress"] == []


def test_long_names_of_releases_still_make_names(tmp_path: Path) -> None:
    resources = install(tmp_path, {"access": {"keys": "{}"}}, release="r" * 53)
    assert max(len(resource["metadata"]["name"]) for resource in resources) <= 63


def test_everything_at_once_is_valid_and_no_less_secure(tmp_path: Path) -> None:
    values = {
        "access": {"keys": "{}"},
        "image": {"pullSecrets": [{"name": "registry"}]},
        "models": {"source": "init", "init": {"image": "x:1", "args": ["a"], "env": [{"name": "A", "value": "b"}]}},
        "ports": {"grpc": 8001},
        "service": {"type": "LoadBalancer", "annotations": {"a": "b"}},
        "ingress": {"enabled": True, "host": "a.example.com", "annotations": {"a": "b"}},
        "networkPolicy": {"egress": [{"to": [{"podSelector": {}}], "ports": [{"port": 4317}]}]},
        "podDisruptionBudget": {"maxUnavailable": "20%"},
        "podAnnotations": {"a": "b"},
        "podLabels": {"a": "b"},
        "nodeSelector": {"kubernetes.io/arch": "arm64"},
        "tolerations": [{"key": "a", "operator": "Exists"}],
        "affinity": {"podAntiAffinity": {}},
        "priorityClassName": "high",
    }
    resources = install(tmp_path, values)
    assert only(resources, "Secret")["kind"] in {resource["kind"] for resource in resources}
    for resource in resources:
        expect_valid(resource, VERSIONS[-1])
    pod = only(resources, "Deployment")["spec"]["template"]["spec"]
    assert len(pod["initContainers"]) == 1
    assert list(insecurities(pod)) == []
