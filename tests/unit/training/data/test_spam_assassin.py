"""The mails here are made up; none of the corpus stands in this repository."""

import io
import random
import tarfile

import numpy as np
import pytest

from training import data
from training.data import spam_assassin
from training.data._duplicates import normalized
from training.data.spam_assassin import ARCHIVE, FOLDERS, MAILS, digest_of
from training.errors import DataError, DataMissing

WORDS = [f"{first}{second}" for first in "bcdfghjklmnprstvw" for second in ("alo", "eri", "ino", "osa", "uta")]


def mail(seed):
    words = " ".join(random.Random(seed).choices(WORDS, k=40))
    return f"From: Ada King <ada{seed}@example.org>\nSubject: about {words[:9]}\n\nDear Ada,\n{words}\n".encode()


def corpus(num_each=12):
    seeds = iter(range(1000))
    return {f"{folder}/{number:05d}.txt": mail(next(seeds)) for folder in FOLDERS for number in range(num_each)}


def pack(folder, mails):
    with tarfile.open(folder / ARCHIVE, "w:gz") as archive:
        for name, content in {**mails, "readme.txt": b"no mail", "spam-1/00000.json": b"{}"}.items():
            member = tarfile.TarInfo(f"package/data/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return folder


def unpack(folder, mails):
    for name, content in mails.items():
        path = folder / "package" / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


@pytest.fixture
def load(tmp_path):
    """Read mails, which must be those of a digest, with a cache of the test's own."""

    def read(folder, mails):
        return spam_assassin.load(folder, digests={MAILS: digest_of(mails)}, cache_dir=tmp_path / "cache")

    return read


def texts_of(found):
    return [text for rows in (found.train, found.validation, found.test) for text in rows.texts]


@pytest.mark.parametrize("write", [pack, unpack])
def test_an_archive_or_its_folder_becomes_three_splits(tmp_path, load, write):
    mails = corpus()
    found = load(write(tmp_path, mails), mails)
    assert len(found.train) > len(found.validation) > 0 < len(found.test)
    assert len(texts_of(found)) == 60
    assert found.classes == ("ham", "spam")
    assert sum(rows.labels.sum() for rows in (found.train, found.validation, found.test)) == 24
    assert found.files == {MAILS: digest_of(mails)}
    assert found.train.texts[0].startswith("about ")
    assert "example.org" not in "".join(texts_of(found))
    assert "ada" in found.private_words


def test_packed_or_not_in_whatever_order_the_rows_are_the_same(tmp_path, load):
    mails = corpus()
    turned = dict(reversed(mails.items()))
    (tmp_path / "a").mkdir()
    first = load(pack(tmp_path / "a", mails), mails)
    (tmp_path / "cache" / "spam_assassin.json").unlink()
    (tmp_path / "b").mkdir()
    second = load(unpack(tmp_path / "b", turned), turned)
    assert texts_of(first) == texts_of(second)
    np.testing.assert_array_equal(first.train.labels, second.train.labels)


def test_a_second_read_takes_the_texts_from_the_cache(tmp_path, load, monkeypatch):
    mails = corpus()
    first = load(pack(tmp_path, mails), mails)
    monkeypatch.setattr(spam_assassin, "prepare", None)
    assert texts_of(load(tmp_path, mails)) == texts_of(first)


def test_the_archive_is_checked_though_there_is_a_cache(tmp_path, load):
    mails = corpus()
    load(pack(tmp_path, mails), mails)
    pack(tmp_path, dict(list(mails.items())[1:]))
    with pytest.raises(DataError, match="59 mails"):
        load(tmp_path, mails)


def test_what_is_there_twice_or_nearly_is_dropped_across_folders_and_counted(tmp_path, load):
    mails = corpus()
    again = mails["easy-ham-1/00000.txt"]
    mails["easy-ham-2/99999.txt"] = again + b"\n\n42 http://example.org/another"
    words = again.split()
    mails["easy-ham-2/99998.txt"] = again.replace(words[-1], b"another")
    found = load(pack(tmp_path, mails), mails)
    assert found.num_dropped == {"same": 1, "near": 1}
    assert len({normalized(text) for text in texts_of(found)}) == len(texts_of(found)) == 60


def test_a_mail_stays_in_its_split_whatever_becomes_of_the_others(tmp_path, load):
    mails = corpus()
    whole = load(pack(tmp_path, mails), mails)
    fewer = {name: content for number, (name, content) in enumerate(mails.items()) if number % 3}
    part = load(pack(tmp_path, fewer), fewer)
    assert set(part.test.texts) < set(whole.test.texts)
    assert set(part.train.texts) < set(whole.train.texts)


def test_missing_mails_are_answered_with_how_to_get_them(tmp_path, load):
    with pytest.raises(DataError, match=r"tgz is missing; fetch it with 'python -m training data fetch spam_assassin'"):
        load(tmp_path, corpus())


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.99])
def test_a_cut_archive_is_named(tmp_path, load, keep):
    mails = corpus()
    path = pack(tmp_path, mails) / ARCHIVE
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(DataError, match=rf"{ARCHIVE} is damaged or (cut off|another file)"):
        load(tmp_path, mails)


@pytest.mark.parametrize("write", [pack, unpack])
def test_a_changed_mail_is_told_by_the_digest(tmp_path, load, write):
    mails = corpus()
    changed = {**mails, "spam-1/00003.txt": mails["spam-1/00003.txt"] + b"!"}
    with pytest.raises(DataError, match="60 mails have SHA-256") as caught:
        load(write(tmp_path, changed), mails)
    assert digest_of(mails) in str(caught.value)
    assert digest_of(changed) in str(caught.value)


def test_swapped_mails_are_told_by_the_digest(tmp_path, load):
    mails = corpus()
    one, other = "spam-1/00003.txt", "easy-ham-1/00003.txt"
    with pytest.raises(DataError, match="damaged or another file"):
        load(pack(tmp_path, {**mails, one: mails[other], other: mails[one]}), mails)


@pytest.mark.needs_data
@pytest.mark.slow
def test_the_real_mails_are_split_as_documented_and_no_text_is_on_two_sides():
    try:
        data.locate("spam_assassin")
    except DataMissing as exc:
        pytest.skip(str(exc))
    found = data.load("spam_assassin")
    splits = (found.train, found.validation, found.test)
    assert tuple(map(len, splits)) == spam_assassin.SOURCE.splits
    assert found.num_dropped == {"same": 199, "near": 627}
    assert [rows.labels.sum() for rows in splits] == [887, 195, 154]
    assert len({normalized(text) for text in texts_of(found)}) == sum(spam_assassin.SOURCE.splits)
    assert all(normalized(text) for text in texts_of(found))
