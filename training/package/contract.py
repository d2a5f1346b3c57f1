"""What the file tells and what was said, together: what goes in, what comes out, and what is still missing."""

from dataclasses import dataclass
from pathlib import Path

from training.package import tasks
from training.package.asked import Asked, Found
from training.package.config import TASKS, Config
from training.package.source import Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """All that a bundle needs beside what is proven and measured.

    Attributes:
        name: Of the bundle.
        description: For people.
        license: Of the model.
        found: What its task makes of it.
    """

    name: str
    description: str
    license: str
    found: Found


def agree(source: Source, config: Config, path: Path) -> Contract:
    """Return what a bundle of a source will be.

    Args:
        source: The file.
        config: What was said.
        path: Of the file, which lends its name.

    Raises:
        SettingsMissing: Something has not been said; the message names all of it.
        PackageRefused: What was said does not fit the file.
    """
    asked = Asked()
    task = config.task or ("text_classification" if source.told.is_text else None)
    if config.description is None:
        asked.need("description", 'description = "Tells the species of an iris."', "for people")
    if config.license is None:
        asked.need("license", 'license = "MIT"', "of the model, an SPDX expression")
    name = config.name or _name_of(path)
    if name is None:
        asked.need("name", 'name = "iris"', "of the bundle: lower-case letters, digits, - and _")
    for missing in source.missing:
        asked.need(*missing)
    found: Found | None = None
    if task is None:
        asked.need("task", 'task = "tensors"', f"what the model is for: {', '.join(TASKS)}")
    elif not source.missing:
        found = tasks.find(task, source, config, asked)
    asked.expect_nothing()
    if found is None or name is None or config.description is None or config.license is None:
        raise AssertionError("what is missing has been asked for")
    return Contract(
        name=name,
        description=config.description,
        license=config.license,
        found=found,
    )


def _name_of(path: Path) -> str | None:
    plain = "".join(letter if letter.isalnum() or letter in "_-" else "-" for letter in path.stem.lower()).strip("-_")
    return plain[:64] if plain and plain.isascii() else None
