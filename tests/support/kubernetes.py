"""Reads manifests of Kubernetes, and holds pods to what its restricted security standard asks.

https://kubernetes.io/docs/concepts/security/pod-security-standards/ says the rules.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

# what a pod may mount under the restricted standard
_VOLUMES = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret",
}  # fmt: skip
# of a predictor of KServe: what is none of a pod's fields, from ComponentExtensionSpec and PredictorSpec in its source
KSERVE_OWN = {"minReplicas", "maxReplicas", "scaleMetric", "scaleTarget", "deploymentStrategy", "model"}
KSERVE_OWN_OF_RUNTIME = {"protocolVersions", "supportedModelFormats"}


def manifests(text: str) -> list[dict[str, Any]]:
    """Return the resources of a file."""
    return [document for document in yaml.safe_load_all(text) if document is not None]


def read(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the resources of every file of a folder, by its name."""
    return {path.name: manifests(path.read_text()) for path in sorted(folder.glob("*.yaml"))}


def only(resources: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    """Return the one resource of a kind."""
    (found,) = [resource for resource in resources if resource["kind"] == kind]
    return found


def pod_spec(resource: dict[str, Any], resources: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the pod that a resource makes, or None; a predictor of KServe takes what it lacks from its runtime."""
    if resource["kind"] == "Deployment":
        spec: dict[str, Any] = resource["spec"]["template"]["spec"]
        return spec
    if resource["kind"] == "InferenceService":
        predictor = resource["spec"]["predictor"]
        own = {name: value for name, value in predictor.items() if name not in KSERVE_OWN}
        runtime = only(resources, "ServingRuntime")["spec"] if "model" in predictor else {}
        return {name: value for name, value in runtime.items() if name not in KSERVE_OWN_OF_RUNTIME} | own
    return None


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    """Return all containers of a pod, those that run before the others as well."""
    return [*pod.get("initContainers", []), *pod.get("containers", [])]


def environ(container: dict[str, Any]) -> dict[str, str]:
    """Return the variables that a container gets."""
    return {variable["name"]: variable["value"] for variable in container.get("env", [])}


def insecurities(pod: dict[str, Any]) -> Iterator[str]:
    """Yield what the restricted standard refuses of a pod, and what we ask beyond it: a root that is read-only."""
    shared = pod.get("securityContext", {})
    yield from (name for name in ("hostNetwork", "hostPID", "hostIPC") if pod.get(name))
    for volume in pod.get("volumes", []):
        yield from (f"volume {kind}" for kind in set(volume) - {"name"} - _VOLUMES)
    for container in containers(pod):
        own = container.get("securityContext", {})
        both = shared | own
        capabilities = own.get("capabilities", {})
        is_right = {
            "privileged": not own.get("privileged"),
            "allowPrivilegeEscalation": own.get("allowPrivilegeEscalation") is False,
            "runAsNonRoot": both.get("runAsNonRoot") is True,
            "runAsUser": both.get("runAsUser", 0) != 0,
            "seccompProfile": both.get("seccompProfile", {}).get("type") in ("RuntimeDefault", "Localhost"),
            "capabilities": capabilities.get("drop") == ["ALL"] and not capabilities.get("add"),
            "hostPort": not any(port.get("hostPort") for port in container.get("ports", [])),
            "readOnlyRootFilesystem": own.get("readOnlyRootFilesystem") is True,
        }
        yield from (f"{container['name']}: {name}" for name, right in is_right.items() if not right)
