from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from app.bundle.loader import open_bundle
from tests.support.committed import LATEST
from training import architectures
from training.explain.reports import Subject
from training.explain.scores import predicted
from training.export import state_dict, verify


@pytest.fixture(scope="session")
def committed():
    """Open a committed model: its bundle, its network, one that was never trained, and how it is served."""

    def load(name):
        bundle = open_bundle(LATEST[name])
        manifest = bundle.manifest
        config = manifest.architecture.config
        network = architectures.build(manifest.architecture.name, config)
        state_dict.load(network, bundle.read(bundle.artifact("state_dict")))
        subject = Subject.of(manifest.architecture.name, config, network)
        run = verify.eager_runner(
            architectures.as_served(network).eval(), tuple(spec.name for spec in manifest.outputs)
        )
        return SimpleNamespace(bundle=bundle, network=network, fresh=subject.fresh, run=run)

    return load


@pytest.fixture(scope="session")
def pixels(pictures):
    """The first 128 pictures of the fixture, float32 of shape (128, 28, 28)."""
    return torch.from_numpy(pictures.images[:128].astype(np.float32))


@pytest.fixture(params=["cnn", "mlp"])
def classifier(request, committed, pixels):
    """A committed classifier of pictures, and what it says of the pixels."""
    subject = committed(request.param)
    subject.name = request.param
    subject.classes = predicted(subject.network, pixels)
    return subject


class Reader(nn.Module):
    """A network of texts: embeds, looks around with one recurrent layer, averages the real tokens."""

    def __init__(self, vocab_size=12, width=6, classes=2):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, width, padding_idx=0)
        self.layer = nn.GRU(width, width, batch_first=True)
        self.head = nn.Linear(width, classes)

    def forward(self, tokens_BT, lengths_B):
        steps_BTD, _ = self.layer(self.embedding(tokens_BT))
        real_BT1 = (torch.arange(tokens_BT.shape[1]) < lengths_B[:, None])[:, :, None]
        return self.head((steps_BTD * real_BT1).sum(dim=1) / lengths_B[:, None])


@pytest.fixture
def reader():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return Reader().eval()
