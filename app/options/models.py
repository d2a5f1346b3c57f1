"""What is served: which models, which of their versions and artifacts, and whose."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from app.options.group import Group, comma_separated

# of all models, or of the one before the equals sign
_BACKEND = r"([a-z0-9][a-z0-9_-]{0,63}=)?[a-z][a-z0-9_]*(-[a-z0-9_]+)?"

# the latest, or of the model before the equals sign a number
_VERSION = r"(latest|[a-z0-9][a-z0-9_-]{0,63}=(latest|[1-9][0-9]{0,8}))"


class ModelSettings(Group):
    """What is served."""

    models_dir: Path = Field(
        default=Path("models"),
        description="Folder of the bundles, <name>/<version>/; also MODELS_DIR. Where neither is set, the first of "
        "AZUREML_MODEL_DIR, /opt/ml/model and /mnt/models that holds bundles.",
    )
    backend: str = Field(
        default="auto",
        pattern=rf"^{_BACKEND}(,{_BACKEND})*$",
        description="Artifact to serve: onnx, state_dict, torch_export, torchscript, or a variant of one, as "
        "onnx-int8; auto takes the first that the bundle has and the installation can run. For one model alone: "
        "cnn=onnx-int8,auto.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto",
        description="Where models compute: cuda is the GPU, and a model that cannot have it fails; auto takes the GPU "
        "where the runtime has one that answers.",
    )
    tuning: bool = Field(
        default=True, description="Heed what `python -m app tune` has written for this machine: on or off."
    )
    state_dir: Path | None = Field(
        default=None,
        description="Folder of what this machine learns of the bundles, <name>/<version>.tuning.json (default: beside "
        "them, in the models folder), and of what admin calls have changed, control.json (default: lost at a restart).",
    )
    allow_torchscript: bool = Field(
        default=False,
        description="Load TorchScript artifacts. Such a file is a program: allow it only where you trust whoever "
        "made the bundles as you trust your own code.",
    )
    signing_key: Path | None = Field(
        default=None,
        description="File of the public keys (PEM, elliptic curve) of which one must have signed a bundle, or it is "
        "not served; needs the extra verifying. Unset: no signature is asked for.",
    )
    version_policy: str = Field(
        default="latest",
        pattern=rf"^{_VERSION}(,{_VERSION})*$",
        description="Version of each model that answers where none is asked for: latest, or with the name of a model a "
        "number, as cnn=2,mlp=1. What is changed by an admin call counts until this setting changes.",
    )
    keep_versions: Literal["all", "served"] = Field(
        default="all",
        description="Versions that are loaded: all in the folder, or those that serve.",
    )
    poll_s: float | None = Field(
        default=None,
        ge=0.1,
        le=86_400,
        description="Seconds between two looks at the models folder for new, changed and removed bundles. Unset: it is "
        "looked at when a model is loaded.",
    )
    required_models: Annotated[tuple[str, ...], BeforeValidator(comma_separated)] = Field(
        default=(), description="Models that /readyz waits for, by comma; default: every bundle found at start-up."
    )
    default_model: str | None = Field(default=None, description="Answers a body of POST /predict that names no model.")

    @model_validator(mode="after")
    def _one_backend_each(self) -> Self:
        names = [part.rpartition("=")[0] for part in self.backend.split(",")]
        if len(set(names)) != len(names):
            raise ValueError(f"ZTO_BACKEND={self.backend!r} names two backends for one model, or for all")
        return self

    @model_validator(mode="after")
    def _one_version_each(self) -> Self:
        names = [part.partition("=")[0] for part in self.version_policy.split(",")]
        if len(set(names)) != len(names):
            raise ValueError(f"ZTO_VERSION_POLICY={self.version_policy!r} names two versions for one model")
        return self

    @property
    def default_versions(self) -> "dict[str, Literal['latest'] | int]":
        """The versions that answer of single models, by name."""
        pairs = (part.split("=") for part in self.version_policy.split(",") if "=" in part)
        return {name: "latest" if version == "latest" else int(version) for name, version in pairs}

    def default_version_of(self, model: str) -> Literal["latest"] | int:
        """Return the version of a model that answers where none is asked for."""
        return self.default_versions.get(model, "latest")

    @property
    def backends(self) -> dict[str, str]:
        """The backends that single models have, by name."""
        pairs = (part.split("=") for part in self.backend.split(",") if "=" in part)
        return dict(pairs)

    def backend_of(self, model: str) -> str:
        """Return the artifact's key for a model, or ``auto``."""
        every = next((part for part in self.backend.split(",") if "=" not in part), "auto")
        return self.backends.get(model, every)
