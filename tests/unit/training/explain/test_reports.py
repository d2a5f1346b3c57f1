import io
import json

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import nn

from training import data
from training.explain.reports import NotExplainable, Subject, explain_bundle, reconstructions, series, texts

WORDS = ["[PAD]", "[UNK]", "[CLS]", "Dear", "friend", "click", "free", "prize", "meeting", "secret", ".", ","]


def expect_pictures(report):
    """Check that every picture is one, and small; return the names of all files."""
    for path, content in report.files.items():
        assert path.startswith("report/explain/")
        assert 500 < len(content) < 60_000 or path.endswith(".json"), path
        if path.endswith(".png"):
            with Image.open(io.BytesIO(content)) as image:
                assert min(image.size) > 100
                assert len(set(image.convert("L").tobytes())) > 4, "nothing is drawn"
    assert np.isfinite(list(report.figures.values())).all()
    return sorted(path.removeprefix("report/explain/") for path in report.files)


def test_a_committed_classifier_of_pictures_is_explained_and_the_same_bytes_come_out_again(committed, pixels):
    bundle = committed("mlp").bundle
    report = explain_bundle(bundle, {"image": pixels[:24].numpy()})
    assert expect_pictures(report) == ["deletion.png", "figures.json", "pictures.png"]
    assert json.loads(report.files["report/explain/figures.json"]) == report.figures
    assert report.figures["integrated gradients/incompleteness"] < 0.05
    assert report.figures["integrated gradients/deletion/random/gain"] > 0.2
    assert explain_bundle(bundle, {"image": pixels[:24].numpy()}).files == report.files


@pytest.mark.parametrize(("name", "table"), [("numpy_mlp", "breast_cancer"), ("numpy_regression", "diabetes")])
def test_a_committed_table_is_explained_in_ways_that_agree(committed, name, table):
    rows = data.load(table).validation
    report = explain_bundle(committed(name).bundle, {"features": rows.features.astype(np.float32)}, rows.targets)
    assert expect_pictures(report) == ["figures.json", "integrated_gradients.png", "permutation.png", "shapley.png"]
    assert report.figures["integrated gradients/like shapley"] > 0.95
    assert report.figures["integrated gradients/incompleteness"] < 0.001
    with pytest.raises(NotExplainable, match="measured on targets"):
        explain_bundle(committed(name).bundle, {"features": rows.features.astype(np.float32)})


def tokenizer():
    found = Tokenizer(models.WordPiece({word: index for index, word in enumerate(WORDS)}, unk_token="[UNK]"))
    found.pre_tokenizer = pre_tokenizers.Whitespace()
    found.post_processor = processors.TemplateProcessing(single="[CLS] $A", special_tokens=[("[CLS]", 2)])
    return found.to_str().encode()


def test_a_report_of_texts_tells_words_that_many_share_and_no_other(reader):
    rng = np.random.default_rng(0)
    tokens = rng.choice([4, 5, 6, 7, 8], (20, 9))
    tokens[:, 0], tokens[3, 4] = 2, WORDS.index("secret")
    inputs = {"tokens": tokens, "lengths": np.full(20, 9)}
    reader.attention_weights = lambda tokens_BT, lengths_B: [
        torch.full((1, 2, tokens_BT.shape[1], tokens_BT.shape[1]), 0.1)
    ]
    report = texts.explain(Subject(network=reader, fresh=type(reader)()), inputs, ("ham", "spam"), tokenizer())
    assert expect_pictures(report) == ["attention.png", "tokens.json", "tokens.png"]
    told = json.loads(report.files["report/explain/tokens.json"])
    assert {word["token"] for word in told["ham"]} == {"friend", "click", "free", "prize", "meeting"}
    assert all(word["num_texts"] >= texts.LEAST_TEXTS for words in told.values() for word in words)
    assert [word["token"] for word in told["spam"]] == [word["token"] for word in told["ham"]][::-1]


class Listener(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.GRU(3, 8, batch_first=True), nn.Linear(8, 2)

    def forward(self, series_BTK, lengths_B):
        steps_BTD, _ = self.layer(series_BTK)
        return self.head(steps_BTD[torch.arange(len(steps_BTD)), lengths_B - 1])


def test_a_classifier_of_series_is_explained_by_time_and_channel():
    rng = np.random.default_rng(0)
    inputs = {"sequence": rng.normal(size=(12, 9, 3)).astype(np.float32), "lengths": rng.integers(3, 10, 12)}
    report = series.explain(Subject(network=Listener().eval(), fresh=Listener().eval()), inputs, ("a", "b"))
    assert expect_pictures(report) == ["time_by_channel.png"]
    assert report.figures["integrated gradients/incompleteness"] < 0.01


class Squeeze(nn.Module):
    def __init__(self):
        super().__init__()
        self.to_code, self.from_code = nn.Linear(784, 8), nn.Linear(8, 784)

    def encode(self, pixels_BHW):
        return self.to_code(pixels_BHW.flatten(1) / 255)

    def decode(self, code_BK):
        return torch.sigmoid(self.from_code(code_BK)).unflatten(1, (28, 28)) * 255


def test_an_autoencoder_is_explained_by_its_errors_and_its_code(pixels):
    report = reconstructions.explain(Subject(network=Squeeze(), fresh=Squeeze()), {"image": pixels.numpy()})
    assert expect_pictures(report) == ["code_traversal.png", "error_maps.png"]
    assert 0 < report.figures["error/mean"] < 1


def test_a_bundle_without_its_network_is_refused_by_what_it_lacks(committed, pixels):
    bundle = committed("mlp").bundle
    onnx_only = bundle.manifest.model_copy(update={"artifacts": (bundle.manifest.artifact("onnx"),)})
    with pytest.raises(NotExplainable, match="'mlp' has no 'state_dict' artifact"):
        explain_bundle(type(bundle)(folder=bundle.folder, manifest=onnx_only), {"image": pixels[:2].numpy()})
