"""What every part of the manifest is made of."""

from pathlib import PurePosixPath
from typing import Annotated, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from app.preprocess.image import FLOAT32_MAX


def _inside_bundle(path: str) -> str:
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or "\\" in path or "\0" in path or not pure.name:
        raise ValueError("must be a relative path inside the bundle folder, without '..'")
    return path


RelativePath: TypeAlias = Annotated[str, AfterValidator(_inside_bundle)]
Sha256: TypeAlias = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Fraction: TypeAlias = Annotated[float, Field(ge=0, le=1)]
Float32: TypeAlias = Annotated[float, Field(ge=-FLOAT32_MAX, le=FLOAT32_MAX)]


class Part(BaseModel):
    """Base of every part of the manifest: frozen, and strict about names."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FileRef(Part):
    """A file of the bundle, with the digest that it must have."""

    path: RelativePath
    sha256: Sha256
    size_bytes: Annotated[int, Field(gt=0)]
