import zipfile

import numpy as np
import pytest

from training import data
from training.data import japanese_vowels
from training.data._source import digests
from training.data._ts import parse_ts
from training.data.japanese_vowels import MAX_LENGTH, MIN_LENGTH, NUM_CHANNELS, TEST_FILE, TRAIN_FILE, WHEEL
from training.errors import DataError, DataMissing


def ts(num_each, seed=0, lengths=(MIN_LENGTH, MAX_LENGTH), labels=range(1, 10)):
    """A file of random series, sorted by class, and the series."""
    random = np.random.default_rng(seed)
    lines, series = ["#a comment: with a colon", "@problemName JapaneseVowels", "@data"], []
    for label in labels:
        for _ in range(num_each):
            each = random.normal(size=(random.integers(lengths[0], lengths[1] + 1), NUM_CHANNELS)).astype(np.float32)
            series.append(each)
            lines.append(":".join([*(",".join(map(str, channel)) for channel in each.T), str(label)]))
    return ("\n".join(lines) + "\n").encode(), series


@pytest.fixture(scope="module")
def files():
    return {TRAIN_FILE: ts(5)[0], TEST_FILE: ts(2, seed=1)[0]}


def plain(folder, files):
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def packed(folder, files):
    with zipfile.ZipFile(folder / WHEEL, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, content in files.items():
            wheel.writestr(f"aeon/datasets/data/JapaneseVowels/{name}", content)
    return folder


def load(folder, files):
    return japanese_vowels.load(folder, digests=digests(files), num_validation=9)


@pytest.mark.parametrize("write", [plain, packed])
def test_two_files_or_a_wheel_become_three_splits_of_every_speaker(tmp_path, files, write):
    found = load(write(tmp_path, files), files)
    assert [np.bincount(rows.labels).tolist() for rows in (found.train, found.validation, found.test)] == [
        [4] * 9,
        [1] * 9,
        [2] * 9,
    ]
    assert found.classes[0] == "speaker 1"
    assert found.files == digests(files)
    assert (found.num_channels, found.min_length, found.max_length) == (12, 7, 29)


def test_series_are_read_as_steps_of_channels_in_float32(tmp_path, files):
    found = load(plain(tmp_path, files), files)
    expected = ts(2, seed=1)[1]
    assert len(found.test) == len(expected)
    for read, written in zip(found.test.series, expected, strict=True):
        np.testing.assert_array_equal(read, written)
        assert read.dtype == np.float32


def test_the_split_is_the_same_every_time_and_shares_nothing(tmp_path, files):
    first, second = (load(plain(tmp_path, files), files) for _ in range(2))
    for one, other in zip(first.validation.series, second.validation.series, strict=True):
        np.testing.assert_array_equal(one, other)
    seen = {each.tobytes() for each in first.train.series}
    assert len(seen) == 36
    assert not seen & {each.tobytes() for each in first.validation.series}


def test_the_environment_says_where_the_wheel_is(tmp_path, files, monkeypatch):
    monkeypatch.setenv("DATA_DIR", str(packed(tmp_path, files)))
    assert len(load(None, files).test) == 18


@pytest.mark.parametrize("name", [TRAIN_FILE, TEST_FILE])
def test_a_missing_file_is_named_with_how_to_get_it(tmp_path, files, name):
    plain(tmp_path, files)
    (tmp_path / name).unlink()
    with pytest.raises(DataError, match=r"is missing; fetch it with 'python -m training data fetch japanese_vowels'"):
        load(tmp_path, files)


@pytest.mark.parametrize("write", [plain, packed])
def test_swapped_files_are_named_with_both_digests(tmp_path, files, write):
    swapped = write(tmp_path, {TRAIN_FILE: files[TEST_FILE], TEST_FILE: files[TRAIN_FILE]})
    with pytest.raises(DataError, match=f"{TRAIN_FILE} is damaged or another file") as caught:
        load(swapped, files)
    assert all(digest in str(caught.value) for digest in digests(files).values())


def test_any_other_data_than_the_real_one_is_refused(tmp_path, files):
    with pytest.raises(DataError, match=japanese_vowels.DIGESTS[TRAIN_FILE]):
        japanese_vowels.load(plain(tmp_path, files))


def test_a_wheel_that_is_cut_off_or_without_the_files_is_named(tmp_path, files):
    wheel = packed(tmp_path, files) / WHEEL
    wheel.write_bytes(wheel.read_bytes()[:-100])
    with pytest.raises(DataError, match=f"{WHEEL} is damaged, cut off or another file"):
        load(tmp_path, files)
    packed(tmp_path, {TRAIN_FILE: files[TRAIN_FILE]})
    with pytest.raises(DataError, match=f"{WHEEL} is damaged, cut off or another file"):
        load(tmp_path, files)


@pytest.mark.parametrize("changes", [{"lengths": (6, 6)}, {"lengths": (30, 30)}, {"labels": [*range(1, 9), 10]}])
def test_a_length_or_a_class_that_the_source_does_not_have_is_named(tmp_path, files, changes):
    other = {**files, TEST_FILE: ts(1, **changes)[0]}
    with pytest.raises(DataError, match=r"TEST.ts, series \d: \d+ steps of class '\d+', expected 7 to 29"):
        load(plain(tmp_path, other), other)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"@problemName x\n1,2:3,4:1\n", "no line '@data'"),
        (b"@data\n1,2:3,4:5,6:1\n", "line 2: 3 channels, expected 2"),
        (b"@data\n1,2:3,4:1\n\n1,2:3:1\n", "line 4: channels of different lengths"),
        (b"@data\n1,x:3,4:1\n", "line 2: channels of different lengths, or no numbers"),
        (b"@data\n1,nan:3,4:1\n", "line 2: a number is missing or not finite"),
        (b"@data\n1,1e39:3,4:1\n", "line 2: a number is missing or not finite"),
        (b"@data\n\xff\xfe", "is no text"),
    ],
)
def test_a_broken_line_is_named(content, fault):
    with pytest.raises(DataError, match=f"^it.*{fault}"):
        parse_ts(content, name="it", num_channels=2)


@pytest.mark.needs_data
def test_the_real_data_set_is_complete_and_split_as_documented():
    try:
        data.locate("japanese_vowels")
    except DataMissing as exc:
        pytest.skip(str(exc))
    found = data.load("japanese_vowels")
    assert (len(found.train), len(found.validation), len(found.test)) == japanese_vowels.SOURCE.splits
    assert np.bincount(found.train.labels).tolist() == [24] * 9
    assert np.bincount(found.validation.labels).tolist() == [6] * 9
    lengths = {len(each) for rows in (found.train, found.validation, found.test) for each in rows.series}
    assert (min(lengths), max(lengths)) == (MIN_LENGTH, MAX_LENGTH)
