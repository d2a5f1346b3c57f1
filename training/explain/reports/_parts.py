"""What the reports of all kinds share."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from training import architectures
from training.explain.deletion import Paired
from training.explain.sanity import Randomization
from training.seeding import derive

FOLDER = "report/explain"
SEED = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A network that is to be explained.

    Attributes:
        network: Trained, in inference mode.
        fresh: The same architecture, never trained.
        temperature: What its logits are divided by when it is served.
    """

    network: nn.Module
    fresh: nn.Module
    temperature: float = 1.0

    @classmethod
    def of(
        cls, name: str, config: Mapping[str, Any], network: nn.Module, *, temperature: float = 1.0, seed: int = SEED
    ) -> "Subject":
        """Build the untrained twin of a network.

        Args:
            name: Of the registered architecture.
            config: Its config, as a manifest holds it.
            network: Built from the two, and trained.
            temperature: Of the manifest.
            seed: Of the fresh weights; torch's global generator is put back to where it was.

        Raises:
            ValueError: There is no such architecture or field, or a value is impossible; the message names it.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(seed, 0))
            fresh = architectures.build(name, config).eval()
        return cls(network=network.eval(), fresh=fresh, temperature=temperature)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was found.

    Attributes:
        files: By their path in the bundle's folder.
        figures: Of how complete and how sane the explanations are.
    """

    files: dict[str, bytes]
    figures: dict[str, float]


def randomization_figures(method: str, found: Randomization) -> dict[str, float]:
    """Name the similarities of a randomization test."""
    prefix = f"{method}/randomized"
    cascade = {
        f"{prefix}/{layer}/{name}": value for layer, one in found.cascade.items() for name, value in asdict(one).items()
    }
    whole = {f"{prefix}/whole/{name}": value for name, value in asdict(found.whole).items()}
    return rounded({**cascade, **whole})


def deletion_figures(method: str, control: str, found: Paired) -> dict[str, float]:
    """Name the figures of a deletion test."""
    return rounded({f"{method}/deletion/{control}/{name}": value for name, value in asdict(found).items()})


def rounded(figures: Mapping[str, float]) -> dict[str, float]:
    """Keep four digits behind the point: what is behind them differs between processors."""
    return {name: round(value, 4) for name, value in figures.items()}
