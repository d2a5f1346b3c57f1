"""Models that are not ours, as others write them: small graphs by hand, a tiny encoder with its tokenizer, weights."""

import json
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor, nn

from app import backends, tasks
from app.bundle.loader import Bundle
from app.serving.costs import learn
from app.serving.proof import promised, prove
from app.tasks import Limits, check_contract
from app.tensors import Array, Tensors
from tests.support.bundles import open_folder
from training.export.onnx import _quiet_exporter

LIMITS = Limits(max_instances=64, max_image_pixels=10_000)
SAID = {"description": "Of somebody else.", "license": "MIT"}
OPSET = 17

Value = tuple[str, int, Sequence[int | str | None] | None]


def graph(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[Value],
    outputs: Sequence[Value],
    weights: Mapping[str, Array] | None = None,
    *,
    opset: int = OPSET,
) -> Path:
    """Write an ONNX file; a value is a name, an element type, and a shape."""
    proto = helper.make_model(
        helper.make_graph(
            list(nodes),
            "foreign",
            [helper.make_tensor_value_info(*value) for value in inputs],
            [helper.make_tensor_value_info(*value) for value in outputs],
            [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()],
        ),
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=8,
    )
    path.write_bytes(proto.SerializeToString())
    return path


def scorer(
    path: Path,
    *,
    features: int = 3,
    classes: int = 2,
    name_in: str = "x",
    name_out: str = "logits",
    dtype: int = TensorProto.FLOAT,
    tail: Sequence[int] | None = None,
    batch: int | str | None = "N",
    softmax: bool = False,
    opset: int = OPSET,
) -> Path:
    """Write a linear model whose weights are 0.1, 0.2, ...; ``tail`` is the shape of a row, else one axis."""
    numpy_type = helper.tensor_dtype_to_np_dtype(dtype)
    weights = {
        "w": (np.arange(1, features * classes + 1).reshape(features, classes) / 10).astype(numpy_type),
        "rows": np.array([-1, features], np.int64),
    }
    nodes = [helper.make_node("Reshape", [name_in, "rows"], ["flat"])]
    nodes.append(helper.make_node("MatMul", ["flat", "w"], ["scores" if softmax else name_out]))
    if softmax:
        nodes.append(helper.make_node("Softmax", ["scores"], [name_out], axis=1))
    shape = [batch, *(tail or (features,))]
    return graph(
        path, nodes, [(name_in, dtype, shape)], [(name_out, dtype, [batch, classes])], weights, opset=opset
    )  # fmt: skip


def linear(rows_BF: Array, classes: int) -> Array:
    """Return what :func:`scorer` makes of rows, worked out again."""
    count = rows_BF.shape[1]
    return rows_BF.astype(np.float64) @ (np.arange(1, count * classes + 1).reshape(count, classes) / 10)


def softmax(scores_BC: Array) -> Array:
    exponentials_BC = np.exp(scores_BC - scores_BC.max(axis=1, keepdims=True))
    return np.asarray(exponentials_BC / exponentials_BC.sum(axis=1, keepdims=True))


class Encoder(nn.Module):
    """One layer of attention over ids, a mask and types, as Transformers name them; logits from the first token."""

    def __init__(self, vocabulary: int, labels: int) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, 16)
        self.types = nn.Embedding(2, 16)
        self.keys = nn.Linear(16, 16)
        self.head = nn.Linear(16, labels)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        words_BTD = self.words(input_ids) + self.types(token_type_ids)
        weights_BTT = words_BTD @ self.keys(words_BTD).transpose(1, 2)
        weights_BTT = weights_BTT.masked_fill(attention_mask[:, None, :] == 0, -1e9).softmax(-1)
        logits_BC: Tensor = self.head((words_BTD + weights_BTT @ words_BTD)[:, 0])
        return logits_BC


@cache
def word_pieces() -> str:
    """Return a tokenizer as BERT's: [CLS] before, [SEP] behind, and a padding token that is not 0."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[UNK]", "[CLS]", "[SEP]", "[PAD]"]
    trainer = trainers.WordPieceTrainer(vocab_size=80, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(
        ["a good film of a good cast", "a bad film", "what a bore it was", "I liked it"], trainer
    )
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    return tokenizer.to_str()


@cache
def encoder() -> nn.Module:
    """Return the encoder, with weights that are always the same."""
    generator_state = torch.random.get_rng_state()
    torch.manual_seed(0)
    network = Encoder(100, 2).eval()
    torch.random.set_rng_state(generator_state)
    return network


@cache
def encoder_graph() -> bytes:
    """Return the encoder as torch's exporter writes it, with dynamic axes."""
    names = ["input_ids", "attention_mask", "token_type_ids"]
    axes = {0: torch.export.Dim("batch", min=1), 1: torch.export.Dim("sequence", min=1)}
    with _quiet_exporter():
        program = torch.onnx.export(
            encoder(),
            tuple(torch.ones(2, 3, dtype=torch.int64) for _ in names),
            input_names=names,
            output_names=["logits"],
            dynamic_shapes=(axes, axes, axes),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    return bytes(program.model_proto.SerializeToString())


def hugging_face(folder: Path, *, at: str = "model.onnx", **config: Any) -> Path:
    """Write a folder as exporters do: a graph with dynamic axes, ``tokenizer.json``, and ``config.json``."""
    (folder / at).parent.mkdir(parents=True, exist_ok=True)
    (folder / at).write_bytes(encoder_graph())
    (folder / "tokenizer.json").write_text(word_pieces())
    document = {"id2label": {"0": "bad", "1": "good"}, "pad_token_id": 3, "max_position_embeddings": 12} | config
    (folder / "config.json").write_text(json.dumps({k: v for k, v in document.items() if v is not None}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 10**30, "pad_token": "[PAD]"}))
    return folder


def encoder_scores(texts: Sequence[str]) -> Array:
    """Return the probabilities of the encoder of :func:`hugging_face`, each text by itself and without padding."""
    tokenizer = Tokenizer.from_str(word_pieces())
    rows: list[Array] = []
    for text in texts:
        ids = torch.tensor([tokenizer.encode(text).ids])
        with torch.inference_mode():
            logits_BC = encoder()(ids, torch.ones_like(ids), torch.zeros_like(ids))
        rows.append(torch.softmax(logits_BC, dim=1).numpy())
    return np.concatenate(rows)


def prove_as_served(folder: Path) -> tuple[Bundle, dict[str, backends.Backend]]:
    """Do with every artifact of a bundle what the service does before it serves; return the backends by key."""
    bundle = open_folder(folder)
    task = tasks.create(bundle, LIMITS)
    loaded: dict[str, backends.Backend] = {}
    for artifact in bundle.manifest.artifacts:
        key, backend = backends.load(artifact.key, bundle, threads=1, allowed=("torchscript",))
        golden = bundle.golden(key)
        check_contract(task, golden)
        run = promised(backend.run, bundle.manifest)
        prove(run, bundle.manifest, golden, key)
        learn(run, golden.inputs, bundle.manifest, key, clock=time.monotonic)
        loaded[key] = backend
    return bundle, loaded


def ask(folder: Path, *instances: Any, backend: str | None = None) -> list[Any]:
    """Return the predictions for instances, through task and backend as a request goes."""
    bundle, loaded = prove_as_served(folder)
    task = tasks.create(bundle, LIMITS)
    tensors: Tensors = task.decode_json({"instances": list(instances)})
    outputs = loaded[backend or bundle.manifest.artifacts[0].key].run(tensors)
    return task.encode(outputs, task.parse_options({}))
