import json
import os
import random
import subprocess
import sys
from collections import Counter

import pytest
from tokenizers import Tokenizer, models

from training import data
from training.errors import DataMissing, PrivateVocabulary, TrainingError
from training.tokenizer import MIN_TEXTS, SPECIAL, VOCABULARY_SIZE, expect_no_addresses, train_tokenizer

WORDS = ["offer", "offers", "offered", "meeting", "meetings", "project", "projects", "reader", "reading", "money"]


def corpus(num=60):
    """Texts of shared words, each with a name, an address, a link and a number of its own."""
    texts = []
    for number in range(num):
        words = random.Random(number).choices(WORDS, k=20)
        name, host = f"Zebulon{chr(97 + number % 26) * 3}", f"host{number}.example.org"
        texts.append(f"{' '.join(words)} {name} person{number}@{host} http://{host} {number * 7919}, please!")
    return texts


@pytest.fixture(scope="module")
def trained():
    return train_tokenizer(corpus(), vocabulary_size=200)


@pytest.fixture(scope="module")
def tokenizer(trained):
    return Tokenizer.from_str(trained.decode())


def vocabulary_of(content):
    return json.loads(content)["model"]["vocab"]


def test_every_text_starts_with_its_token_and_nothing_is_padded_or_cut(tokenizer, trained):
    assert [tokenizer.token_to_id(token) for token in SPECIAL] == [0, 1, 2]
    encoded = tokenizer.encode("Offers of MONEY " * 2000)
    assert encoded.tokens[:2] == ["[CLS]", "offers"]
    assert encoded.tokens.count("money") == 2000
    assert tokenizer.encode("").ids == [2]
    assert (tokenizer.padding, tokenizer.truncation) == (None, None)


def test_words_that_were_never_seen_are_read_by_their_parts(tokenizer):
    parts = tokenizer.encode("reoffering").tokens[1:]
    assert len(parts) > 1
    assert "".join(part.removeprefix("##") for part in parts) == "reoffering"
    assert tokenizer.encode("\u4e2d\u6587").tokens == ["[CLS]", "[UNK]"]


def test_addresses_links_and_digits_are_masked_by_the_tokenizer_itself(tokenizer):
    text = "a@b.example wrote HTTPS://Example.org/x?y=1#z or www.example.org to <Joe.Q+tag@MAIL.example.org>: "
    numbers = "\uff1942, 0800-5551234"
    normal = tokenizer.normalizer.normalize_str(text + numbers)
    assert " ".join(normal.split()) == "xxemail wrote xxurl or xxurl to < xxemail >: 000, 0000-00000"
    tokens = tokenizer.encode(text).tokens
    assert {"xxemail", "xxurl", "0"} & set(tokens) >= {"xxemail", "xxurl"}


def test_special_tokens_that_stand_in_a_text_are_only_letters(tokenizer):
    ids = tokenizer.encode("[PAD] [CLS] [UNK]").ids
    assert ids[0] == 2
    assert not {0, 2} & set(ids[1:])


def test_only_words_that_many_texts_share_are_learned():
    shared = ["hello everybody"] * 9 + ["hello there everybody"]
    vocabulary = vocabulary_of(train_tokenizer(shared, vocabulary_size=300, min_texts=10))
    assert {"hello", "everybody"} <= set(vocabulary)
    assert not any("there".startswith(piece) and len(piece) > 1 for piece in vocabulary)
    assert "there" in vocabulary_of(train_tokenizer([*shared, *["there"] * 9], vocabulary_size=300, min_texts=10))


def test_a_word_counts_once_a_text():
    texts = ["hello everybody"] * 10 + ["chorus " * 50]
    assert "chorus" not in vocabulary_of(train_tokenizer(texts, vocabulary_size=300))


def test_a_name_is_not_learned_though_all_texts_have_it():
    texts = [f"{text} Ignatius wrote to Bo" for text in corpus()]
    assert {"ignatius", "wrote"} <= set(vocabulary_of(train_tokenizer(texts, vocabulary_size=300)))
    content = train_tokenizer(texts, vocabulary_size=300, private_words={"ignatius", "bo"})
    vocabulary = set(vocabulary_of(content))
    assert "wrote" in vocabulary
    assert not {"ignatius", "##gnatius", "bo"} & vocabulary
    assert Tokenizer.from_str(content.decode()).encode("Ignatius").tokens[1:] != ["ignatius"]


def test_a_name_inside_of_other_words_is_taken_out_again():
    texts = ["marking markings marked marker"] * 20
    assert "mark" in vocabulary_of(train_tokenizer(texts, vocabulary_size=60))
    content = train_tokenizer(texts, vocabulary_size=60, private_words={"mark"})
    assert "mark" not in vocabulary_of(content)
    assert "".join(
        token.removeprefix("##") for token in Tokenizer.from_str(content.decode()).encode("marked").tokens[1:]
    ) == ("marked")


def test_the_same_texts_give_the_same_bytes_in_every_process(trained, repository):
    program = (
        "import sys; from tests.unit.training.test_tokenizer import corpus; from training.tokenizer import *; "
        "sys.stdout.buffer.write(train_tokenizer(corpus(), vocabulary_size=200))"
    )
    for hash_seed, threads in (("1", "1"), ("2", "4")):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "RAYON_NUM_THREADS": threads}
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, env=environment, cwd=repository, check=True
        )
        assert done.stdout == trained


def test_the_size_is_a_bound_that_more_words_fill():
    sizes = [len(vocabulary_of(train_tokenizer(corpus(), vocabulary_size=size))) for size in (60, 70, 10_000)]
    assert sizes[0] <= 60 < sizes[1] <= 70 < sizes[2] < 300


def test_a_long_text_without_blanks_is_one_unknown_word(tokenizer):
    assert tokenizer.encode("a" * 100_000).tokens == ["[CLS]", "[UNK]"]
    assert len(tokenizer.encode("a@" * 50_000).ids) < 100_000


@pytest.mark.parametrize(
    ("texts", "options", "error", "fault"),
    [
        ([], {}, TrainingError, "of 0 texts no 10 have a word in common"),
        (["each its", "own words"], {"min_texts": 2}, TrainingError, "of 2 texts no 2 have a word in common"),
        (["hello there"] * 10, {"vocabulary_size": 10}, TrainingError, "a vocabulary of 10 cannot hold the letters"),
        (["hello"], {"vocabulary_size": 0}, ValueError, "must be 1 or more"),
        (["hello"], {"min_texts": 0}, ValueError, "must be 1 or more"),
    ],
)
def test_what_cannot_be_learned_from_is_said(texts, options, error, fault):
    with pytest.raises(error, match=fault):
        train_tokenizer(texts, **options)


@pytest.mark.parametrize(
    "piece", ["joe@mail", "@example", "mail.example", "##a.b", "http://", "5551234", "##1", "ignatius", "##ignatius"]
)
def test_a_vocabulary_that_tells_of_somebody_is_refused(trained, piece):
    content = json.loads(trained)
    expect_no_addresses(json.dumps(content), private_words={"ignatius"})
    content["model"]["vocab"][piece] = len(content["model"]["vocab"])
    with pytest.raises(PrivateVocabulary, match="in 1 of its tokens") as caught:
        expect_no_addresses(json.dumps(content), private_words={"ignatius"})
    assert repr(piece) in str(caught.value)


@pytest.mark.parametrize("piece", ["@", "@@", "...", "00", "##.", "a_b", "##bo"])
def test_signs_alone_tell_nothing(trained, piece):
    content = json.loads(trained)
    content["model"]["vocab"][piece] = len(content["model"]["vocab"])
    expect_no_addresses(json.dumps(content), private_words={"bo"})


@pytest.mark.parametrize(
    "model",
    [
        models.BPE({"j": 0, "@": 1, "j@": 2}, [("j", "@")]),
        models.Unigram([("j", -1.0), ("j@x", -2.0)]),
        models.WordLevel({"j@x": 0}),
    ],
    ids=["BPE", "Unigram", "WordLevel"],
)
def test_models_of_other_kinds_are_looked_through(model):
    with pytest.raises(PrivateVocabulary, match=r"'j@x?'"):
        expect_no_addresses(Tokenizer(model).to_str())


def test_an_added_token_is_looked_at(trained):
    telling = Tokenizer.from_str(trained.decode())
    telling.add_tokens(["joe@example.org"])
    with pytest.raises(PrivateVocabulary, match="joe@example"):
        expect_no_addresses(telling.to_str())


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b'{"model": {"vocab": 3}}', b"\xff", b'{"model": {"vocab": [[]]}}']
)
def test_what_is_no_tokenizer_is_refused(content):
    with pytest.raises(TrainingError, match=r"no tokenizer\.json"):
        expect_no_addresses(content)


@pytest.mark.slow
@pytest.mark.needs_data
def test_of_the_real_mails_only_what_many_wrote_is_learned():
    try:
        data.locate("spam_assassin")
    except DataMissing as exc:
        pytest.skip(str(exc))
    mails = data.load("spam_assassin")
    content = train_tokenizer(mails.train.texts, private_words=mails.private_words)
    assert content == train_tokenizer(mails.train.texts, private_words=mails.private_words)
    expect_no_addresses(content, private_words={word for word in mails.private_words if len(word) > 3})
    vocabulary = vocabulary_of(content)
    assert VOCABULARY_SIZE - 50 < len(vocabulary) <= VOCABULARY_SIZE
    tokenizer = Tokenizer.from_str(content.decode())
    normal = (tokenizer.normalizer.normalize_str(text) for text in mails.train.texts)
    num_texts = Counter(
        word for text in normal for word in {w for w, _ in tokenizer.pre_tokenizer.pre_tokenize_str(text)}
    )
    shared = [word for word, count in num_texts.items() if count >= MIN_TEXTS and word not in mails.private_words]
    joined = "\n".join(f"\n{word}" for word in shared)
    starts, inside = (lambda piece: f"\n{piece}" in joined), (lambda piece: piece.removeprefix("##") in joined)
    learned = [piece for piece in vocabulary if len(piece.removeprefix("##")) > 1 and piece not in SPECIAL]
    assert not [piece for piece in learned if not (inside if piece.startswith("##") else starts)(piece)]
    validation = [token for text in mails.validation.texts for token in tokenizer.encode(text).ids[1:]]
    assert validation.count(1) < 0.01 * len(validation)
