import dataclasses
import gc

import numpy as np
import pytest

from app.preprocess.text import TextPreparation
from tests.support import slices
from training import pipeline
from training.data import TextRows
from training.errors import ConfigError, TrainingError
from training.problems._golden_texts import GOLDEN_TEXTS
from training.problems.text_classification import OPTIONS, TOKENIZER_FILE


@pytest.fixture
def case(cases):
    return cases["text_classification"]


def problem_with(case, data=None, **options):
    return pipeline.problem_of(dataclasses.replace(case.config, data_options=options), data or case.problem.data)


def test_the_tokenizer_of_the_bundle_learned_from_the_training_split_alone(case):
    data = case.problem.data
    strange = tuple("zyzzyva" for _ in range(60))
    others = {split: TextRows(texts=strange, labels=getattr(data, split).labels) for split in ("validation", "test")}
    problem = problem_with(case, dataclasses.replace(data, **others))
    assert problem.files() == case.problem.files()
    assert b"zyzzyva" not in problem.files()[TOKENIZER_FILE]


def test_tokens_are_those_of_the_file_and_of_the_limits(case):
    problem = problem_with(case, max_chars=40, max_tokens=6)
    text = problem.settings(case.run).text
    content = problem.files()[text.tokenizer.path]
    assert len(content) == text.tokenizer.size_bytes
    preparation = TextPreparation(content, text.max_chars, text.max_tokens)
    rows = problem.data.test
    tensors = problem.tensors(rows)
    assert tensors["lengths"].max() == 6
    for index, ids in enumerate(problem.tokens(rows)):
        np.testing.assert_array_equal(ids, preparation.ids(rows.texts[index]))
        np.testing.assert_array_equal(tensors["tokens"][index, : len(ids)], ids)
        assert not tensors["tokens"][index, len(ids) :].any()


@pytest.mark.no_cover  # others cover the same lines, and tracing doubles its time
def test_tokens_are_of_the_rows_that_are_asked_for_though_others_were_in_their_place(case):
    # rows that are taken and let go make room for others, and a new object may lie where an old one lay
    problem, train = problem_with(case), case.problem.data.train
    for start in range(0, 200, 10):
        rows = train.take(np.arange(start, start + 10))
        for text, ids in zip(rows.texts, problem.tokens(rows), strict=True):
            np.testing.assert_array_equal(ids, problem.preparation.ids(text))
        del rows
        gc.collect()


def test_no_text_of_the_data_is_among_the_golden_rows_or_in_the_files(case):
    data = case.problem.data
    asked = [request["text"] for request in case.golden.requests]
    assert asked == list(GOLDEN_TEXTS)
    everyone = {*data.train.texts, *data.validation.texts, *data.test.texts}
    assert not everyone & set(asked)
    (content,) = case.problem.files().values()
    assert not any(text.encode() in content for text in everyone)


def test_golden_texts_reach_every_edge_of_what_may_be_asked(case):
    lengths = case.golden.inputs["lengths"]
    assert lengths.max() == OPTIONS["max_tokens"]
    assert max(map(len, GOLDEN_TEXTS)) > OPTIONS["max_chars"]
    assert min(map(len, GOLDEN_TEXTS)) == 1
    assert any(text.isspace() for text in GOLDEN_TEXTS)
    # what no training text has: nothing but the start, and what is unknown
    unknown = case.golden.inputs["tokens"][GOLDEN_TEXTS.index("漢字かな交じり文")]
    assert set(unknown.tolist()) == {0, 1, 2}


def test_the_limits_follow_the_options(case):
    problem = problem_with(case, vocab_size=120, max_tokens=30, max_elements=600)
    assert problem.longest == {"tokens": 30}
    assert problem.max_elements == 600
    measured = problem.measured()
    assert measured["vocab_size"] <= 120
    assert (measured["max_tokens"], measured["num_classes"]) == (30, 2)
    assert problem.lengths(problem.data.train).max() <= 30


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"vocab_size": 0}, "'vocab_size' must be above 0"),
        ({"max_chars": 2_000_000}, "max_chars"),
        ({"max_tokens": 70_000}, "max_tokens"),
        ({"max_tokens": 1}, "1 tokens hold nothing of the text"),
        ({"max_tokens": 12.5}, "'max_tokens' must be of type int"),
    ],
)
def test_an_impossible_option_is_named_before_any_training(case, options, named):
    with pytest.raises(ConfigError, match=named):
        problem_with(case, **options)


def test_a_vocabulary_without_room_for_the_letters_is_refused(case):
    with pytest.raises(TrainingError, match="a vocabulary of 10 cannot hold the letters"):
        problem_with(case, vocab_size=10)


def test_the_statistics_are_of_the_lengths_of_training_texts(case):
    (found,) = case.problem.statistics().values()
    lengths = case.problem.lengths(case.problem.data.train)
    assert found.mean == pytest.approx(lengths.mean(), rel=1e-4)


def test_the_slice_can_be_told_apart_by_its_words_and_is_nobodys_letter():
    data = slices.texts()
    words = set(f"{slices.HAM} {slices.SPAM} {slices.BOTH}".split())
    assert {word.strip(".!?").lower() for text in data.train.texts for word in text.split()} == words
