"""What the tools of platforms take: the commands that our pages name, each with its options.

Only what the pages use is listed, so that a page cannot come to name another command or option unseen. Those of AWS,
but for `aws s3 cp`, were parsed by the AWS CLI itself; those of the other tools were written from their documentation.
"""

import re

_CHECKED: dict[str, tuple[str, ...]] = {
    "helm install": ("--set", "--set-file", "--values"),
    "helm upgrade": ("--reset-then-reuse-values", "--set", "--set-file", "--values"),
    "kubectl create secret generic": ("--from-file",),
    "kubectl port-forward": (),
    "kubectl rollout": (),
    "aws ecr create-repository": ("--repository-name",),
    "aws ecr get-login-password": (),
    "aws s3 cp": (),
    "aws sagemaker create-model": ("--model-name", "--execution-role-arn", "--primary-container"),
    "aws sagemaker create-endpoint-config": ("--endpoint-config-name", "--production-variants"),
    "aws sagemaker create-endpoint": ("--endpoint-name", "--endpoint-config-name"),
    "aws sagemaker wait": ("--endpoint-name",),
    "aws sagemaker-runtime invoke-endpoint": ("--endpoint-name", "--content-type", "--custom-attributes", "--body"),
    "aws apprunner create-service": (
        "--service-name", "--source-configuration", "--instance-configuration", "--health-check-configuration",
    ),
    "aws apprunner list-services": (),
    "gcloud artifacts repositories create": ("--repository-format", "--location"),
    "gcloud auth configure-docker": (),
    "gcloud ai models upload": (
        "--region", "--display-name", "--container-image-uri", "--container-ports", "--container-health-route",
        "--container-predict-route", "--container-env-vars",
    ),
    "gcloud ai models list": ("--region", "--filter"),
    "gcloud ai endpoints create": ("--region", "--display-name"),
    "gcloud ai endpoints deploy-model": (
        "--region", "--model", "--display-name", "--machine-type", "--min-replica-count", "--traffic-split",
    ),
    "gcloud ai endpoints predict": ("--region", "--json-request"),
    "gcloud ai endpoints raw-predict": ("--region", "--http-headers", "--request"),
    "gcloud run deploy": (
        "--image", "--region", "--port", "--cpu", "--memory", "--concurrency", "--cpu-boost",
        "--no-allow-unauthenticated", "--set-env-vars", "--startup-probe",
    ),
    "gcloud run services update": ("--region", "--add-volume", "--add-volume-mount", "--update-env-vars",
                                   "--update-secrets"),
    "gcloud secrets create": ("--data-file",),
    "gcloud run services proxy": ("--region", "--port"),
    "az acr login": ("--name",),
    "az ml online-endpoint create": ("--resource-group", "--workspace-name", "--file"),
    "az ml online-endpoint invoke": ("--resource-group", "--workspace-name", "--name", "--request-file"),
    "az ml online-deployment create": ("--resource-group", "--workspace-name", "--file", "--all-traffic"),
    "az ml online-deployment get-logs": ("--resource-group", "--workspace-name", "--endpoint-name", "--name"),
    "az containerapp env create": ("--name", "--resource-group", "--location"),
    "az containerapp create": (
        "--name", "--resource-group", "--environment", "--image", "--registry-server", "--registry-identity",
        "--ingress", "--target-port", "--cpu", "--memory", "--min-replicas", "--max-replicas", "--env-vars",
        "--secrets", "--secret-volume-mount",
    ),
    "az containerapp show": ("--name", "--resource-group", "--query", "--output"),
    "kubectl apply": ("--filename",),
    "kubectl create secret": ("--from-file",),
    "kubectl wait": ("--for", "--timeout"),
    "fly apps create": (),
    "fly auth docker": (),
    "fly secrets set": ("--app",),
    "fly deploy": ("--config", "--app"),
    "tar": ("--create", "--gzip", "--file", "--directory"),
}  # fmt: skip

TOOLS = tuple({command.split()[0] for command in _CHECKED})


def check(words: list[str]) -> None:
    """Hold a command against what its tool takes."""
    command = " ".join(words)
    name = max((known for known in _CHECKED if f"{command} ".startswith(f"{known} ")), key=len, default=None)
    assert name is not None, f"nobody has looked up whether there is such a command: {command}"
    options = {word.partition("=")[0] for word in words if re.match(r"--\w", word)}
    assert options <= set(_CHECKED[name]), f"nobody has looked up these options of {name}: {command}"
