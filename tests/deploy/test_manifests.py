"""What is applied to a cluster is right of the service: settings, ports, probes, times, and what a pod may not do."""

import copy
import json
import math
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.errors import SettingsError
from app.settings import PREFIX, Settings
from tests.deploy.conftest import CHART, PLAIN, PODS, ROOT, each_pod, the_service
from tests.support.kubernetes import containers, environ, insecurities, only

INSTALLATIONS = [pytest.param(resources, id=name) for name, resources in PLAIN.items()]
# between the steps of a shutdown, see docs/architecture/06-shutdown.md
BETWEEN_S = 4

each_installation = pytest.mark.parametrize("resources", INSTALLATIONS)


def pod_of(installation: list[dict[str, Any]]) -> dict[str, Any]:
    pod: dict[str, Any] = only(installation, "Deployment")["spec"]["template"]["spec"]
    return pod


@each_pod
def test_settings_of_a_pod_can_be_set(pod: dict[str, Any]) -> None:
    Settings.from_environ(environ(the_service(pod)))


@each_pod
def test_a_pod_says_who_may_ask(pod: dict[str, Any]) -> None:
    variables = environ(the_service(pod))
    assert ("ZTO_API_KEYS_FILE" in variables) != (variables.get("ZTO_ALLOW_ANONYMOUS") == "1")


@each_pod
def test_a_pod_has_the_time_that_a_shutdown_may_take(pod: dict[str, Any]) -> None:
    settings = Settings.from_environ(environ(the_service(pod)))
    assert pod["terminationGracePeriodSeconds"] > math.ceil(settings.drain_s) + settings.shutdown_s + BETWEEN_S
    assert settings.drain_s >= 5, "proxies of the cluster have to learn that the pod goes"


@each_pod
def test_no_container_may_more_than_the_restricted_standard_allows(pod: dict[str, Any]) -> None:
    assert list(insecurities(pod)) == []


OF_POD, OF_CONTAINER = "securityContext", "containers/0/securityContext"


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        (f"{OF_POD}/seccompProfile", None, "seccompProfile"),
        (f"{OF_POD}/runAsNonRoot", None, "runAsNonRoot"),
        (f"{OF_POD}/runAsUser", 0, "runAsUser"),
        (f"{OF_CONTAINER}/capabilities", {}, "capabilities"),
        (f"{OF_CONTAINER}/capabilities/add", ["NET_ADMIN"], "capabilities"),
        (f"{OF_CONTAINER}/allowPrivilegeEscalation", None, "allowPrivilegeEscalation"),
        (f"{OF_CONTAINER}/privileged", True, "privileged"),
        (f"{OF_CONTAINER}/readOnlyRootFilesystem", None, "readOnlyRootFilesystem"),
        ("containers/0/ports/0/hostPort", 80, "hostPort"),
        ("hostNetwork", True, "hostNetwork"),
        ("volumes/0/hostPath", {"path": "/"}, "hostPath"),
    ],
)
def test_a_pod_that_may_more_is_found(path: str, value: object, named: str) -> None:
    pod = copy.deepcopy(pod_of(PLAIN["image.yaml"]))
    *parents, last = path.split("/")
    place: Any = pod
    for name in parents:
        place = place[int(name) if name.isdigit() else name]
    place[last] = value if value is not None else {}
    assert [fault for fault in insecurities(pod) if named in fault]


@each_pod
def test_a_pod_has_no_token_and_no_variables_of_its_neighbors(pod: dict[str, Any]) -> None:
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False


def test_a_neighbor_named_like_our_prefix_would_break_the_start() -> None:
    """Why service links are off: these are the variables of a Service named zto."""
    links = {f"{PREFIX}PORT": "tcp://10.0.0.7:80", f"{PREFIX}SERVICE_HOST": "10.0.0.7"}
    with pytest.raises(SettingsError, match="unknown setting ZTO_SERVICE_HOST"):
        Settings.from_environ(links)


@each_pod
def test_every_container_says_what_it_needs(pod: dict[str, Any]) -> None:
    for container in containers(pod):
        assert {"cpu", "memory"} <= set(container["resources"]["requests"]), container["name"]
        assert "memory" in container["resources"]["limits"], container["name"]


@each_pod
def test_what_is_mounted_is_a_volume_and_only_state_can_be_written(pod: dict[str, Any]) -> None:
    volumes = {volume["name"] for volume in pod.get("volumes", [])}
    for container in containers(pod):
        assert {mount["name"] for mount in container.get("volumeMounts", [])} <= volumes
    container = the_service(pod)
    mounts = container.get("volumeMounts", [])
    writable = {mount["mountPath"] for mount in mounts if not mount.get("readOnly")}
    variables = environ(container)
    assert writable <= {variables.get("ZTO_STATE_DIR")}
    places = {mount["mountPath"] for mount in mounts}
    if "ZTO_MODELS_DIR" in variables:
        assert variables["ZTO_MODELS_DIR"] in places
    if "ZTO_API_KEYS_FILE" in variables:
        assert str(Path(variables["ZTO_API_KEYS_FILE"]).parent) in places


@each_installation
def test_whatever_selects_the_pods_selects_those_of_the_deployment(resources: list[dict[str, Any]]) -> None:
    deployment = only(resources, "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"].items()
    service = only(resources, "Service")
    selectors = [
        deployment["spec"]["selector"]["matchLabels"],
        service["spec"]["selector"],
        only(resources, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        only(resources, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        *(spread["labelSelector"]["matchLabels"] for spread in pod_of(resources)["topologySpreadConstraints"]),
    ]
    assert all(selector and selector.items() <= labels for selector in selectors)
    assert deployment["spec"]["template"]["spec"]["serviceAccountName"] in {
        resource["metadata"]["name"] for resource in resources if resource["kind"] == "ServiceAccount"
    }
    for monitor in (resource for resource in resources if resource["kind"] == "ServiceMonitor"):
        assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
        assert {point["port"] for point in monitor["spec"]["endpoints"]} <= {
            p["name"] for p in service["spec"]["ports"]
        }
        assert {point["path"] for point in monitor["spec"]["endpoints"]} == {"/metrics"}


@each_installation
def test_ports_that_are_named_are_those_of_the_container(resources: list[dict[str, Any]]) -> None:
    named = {port["name"]: port["containerPort"] for port in the_service(pod_of(resources))["ports"]}
    service = only(resources, "Service")
    assert {port["targetPort"] for port in service["spec"]["ports"]} == set(named)
    settings = Settings.from_environ(environ(the_service(pod_of(resources))))
    assert named == {"http": settings.port} | ({"grpc": settings.grpc_port} if settings.grpc_port else {})
    for ingress in (resource for resource in resources if resource["kind"] == "Ingress"):
        for rule in ingress["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                backend = path["backend"]["service"]
                assert backend["name"] == service["metadata"]["name"]
                assert backend["port"]["name"] in {port["name"] for port in service["spec"]["ports"]}


@each_installation
def test_the_network_reaches_the_doors_and_not_the_admin_port(resources: list[dict[str, Any]]) -> None:
    policy = only(resources, "NetworkPolicy")["spec"]
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"}
    (rule,) = policy["ingress"]
    assert rule["from"], "an empty list would let everybody in"
    assert {port["port"] for port in rule["ports"]} <= {"http", "grpc"}
    (to_dns,) = policy["egress"]
    assert to_dns["to"]
    assert {(port["port"], port["protocol"]) for port in to_dns["ports"]} == {(53, "UDP"), (53, "TCP")}
    container = the_service(pod_of(resources))
    variables = environ(container)
    assert "ZTO_ADMIN_HOST" not in variables
    assert int(variables["ZTO_ADMIN_PORT"]) not in {port["containerPort"] for port in container["ports"]}


@each_installation
def test_a_rolling_update_never_takes_away_what_serves(resources: list[dict[str, Any]]) -> None:
    deployment = only(resources, "Deployment")["spec"]
    assert deployment["strategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1},
    }
    scalers = [resource for resource in resources if resource["kind"] == "HorizontalPodAutoscaler"]
    for scaler in scalers:
        assert scaler["spec"]["scaleTargetRef"]["name"] == only(resources, "Deployment")["metadata"]["name"]
        (metric,) = scaler["spec"]["metrics"]
        assert metric["containerResource"]["container"] == the_service(pod_of(resources))["name"]
    # an autoscaler and a number of replicas would fight at every upgrade
    assert ("replicas" in deployment) != bool(scalers)
    assert min([s["spec"]["minReplicas"] for s in scalers] or [deployment.get("replicas")]) >= 2


def test_versions_are_those_of_the_service() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == version
    images = {container["image"] for pod in PODS for container in pod.values[0]["containers"]}
    assert {image.rpartition(":")[2] for image in images} == {version}
    assert len(images) == 1


def test_the_schema_knows_every_value_and_no_other() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = json.loads((CHART / "values.schema.json").read_text())
    del schema["properties"]["global"]  # Helm's own

    def compare(place: str, values: dict[str, Any], schema: dict[str, Any]) -> None:
        assert set(values) == set(schema["properties"]), place
        for name, value in values.items():
            inner = schema["properties"][name]
            # requests and limits are Kubernetes's own
            if name != "resources" and isinstance(value, dict) and "properties" in inner:
                assert inner["additionalProperties"] is False
                compare(f"{place}/{name}", value, inner)

    assert schema["additionalProperties"] is False
    compare("#", values, schema)


def test_every_value_has_an_effect() -> None:
    text = "".join(path.read_text() for path in (CHART / "templates").iterdir())
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    def leaves(values: dict[str, Any]) -> Iterator[str]:
        for name, value in values.items():
            yield from leaves(value) if isinstance(value, dict) and value else [name]

    # resources go in as they stand
    unused = [name for name in leaves({k: v for k, v in values.items() if k != "resources"}) if f".{name}" not in text]
    assert unused == []
