"""A sub-word tokenizer (WordPiece) for private texts: small, the same on every run, and holding nobody's name.

What is masked is masked by the tokenizer's own normalizer, so that ``tokenizer.json`` carries it into the service: text
becomes compatibility-composed (NFKC) and lower case, links ``xxurl``, mail addresses ``xxemail``, every digit ``0``.

What is learned is learned from words that stand in :data:`MIN_TEXTS` or more texts, each counted once a text, and that
name no person; a piece of the vocabulary is therefore a part of words that many people wrote. Other words are still
read, by their parts.

Special tokens are words of the model and not of the tokenizer's "added" ones: a text that says ``[PAD]`` is read as the
brackets and letters that it has, and cannot pass for padding.

Source of the algorithm: Schuster and Nakajima, Japanese and Korean voice search, 2012.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from typing import Any

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from training.errors import PrivateVocabulary, TrainingError

PAD, UNKNOWN, START = "[PAD]", "[UNK]", "[CLS]"
SPECIAL = (PAD, UNKNOWN, START)
URL, EMAIL = "xxurl", "xxemail"

VOCABULARY_SIZE = 4_000
MIN_TEXTS = 10
LONGEST_WORD = 64  # letters; a longer one is unknown as a whole
SHORTEST_NAME = 4  # letters; a shorter one may be a part of other words

_INSIDE = "##"
_PART = r"[^\s@<>()\[\],;:\"'=]"
# bounded, so that the time does not grow with the square of a text without blanks
_MASKS = (
    (r"(?:https?|ftp)://[^\s<>\"]+|www\.[^\s<>\"]+", f" {URL} "),
    (rf"{_PART}{{1,64}}@{_PART}{{1,255}}", f" {EMAIL} "),
    (r"\d", "0"),
    (r"0{6,}", "00000"),  # an account, a telephone number or a key: that it is long is all that it tells
)
_ADDRESS = re.compile(r"\w@|@\w|\w\.\w|://|[1-9]")


def train_tokenizer(
    texts: Sequence[str],
    *,
    vocabulary_size: int = VOCABULARY_SIZE,
    min_texts: int = MIN_TEXTS,
    private_words: Set[str] = frozenset(),
) -> bytes:
    """Learn a vocabulary; the same texts give the same bytes.

    Args:
        texts: The training split, and nothing else.
        vocabulary_size: Number of tokens, special ones included, at most.
        min_texts: In how many texts a word must stand to be learned from.
        private_words: Words in lower case that must not be learned.

    Returns:
        The content of ``tokenizer.json``: :data:`PAD` is token 0, every text starts with :data:`START`; nothing is
        padded or cut, which is for the model's manifest to say.

    Raises:
        ValueError: A number is below 1.
        TrainingError: The texts have no words in common, or more letters than the vocabulary has room for.
        PrivateVocabulary: What was learned would tell an address or a name.
    """
    if vocabulary_size < 1 or min_texts < 1:
        raise ValueError(f"vocabulary_size and min_texts must be 1 or more, got {vocabulary_size} and {min_texts}")
    tokenizer = _untrained()
    words, letters = _spread(tokenizer, texts)
    shared = {
        word: count
        for word, count in sorted(words.items())
        if count >= min_texts and word not in private_words and len(word) <= LONGEST_WORD
    }
    alphabet = sorted(letter for letter, count in letters.items() if count >= min_texts)
    if not shared:
        raise TrainingError(f"of {len(texts)} texts no {min_texts} have a word in common, so there is none to learn")
    smallest = len(SPECIAL) + 2 * len(alphabet)
    if vocabulary_size < smallest:
        raise TrainingError(f"a vocabulary of {vocabulary_size} cannot hold the letters, it takes {smallest} or more")
    private = frozenset(word for word in private_words if len(word) >= SHORTEST_NAME)
    pieces = _learn(shared, alphabet, vocabulary_size)
    tokenizer.model = _model(sorted(piece for piece in pieces if piece.removeprefix(_INSIDE) not in private))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A", special_tokens=[(START, SPECIAL.index(START))]
    )
    content = tokenizer.to_str(pretty=True).encode()
    expect_no_addresses(content, private_words=private)
    return content


def expect_no_addresses(tokenizer_json: bytes | str, *, private_words: Set[str] = frozenset()) -> None:
    """Check that a vocabulary tells no address, host, number or name.

    Args:
        tokenizer_json: Content of a ``tokenizer.json``, of any model that the ``tokenizers`` library knows.
        private_words: Names, in lower case; no token may be one, and none of :data:`SHORTEST_NAME` letters or more may
            be a part of words that is one.

    Raises:
        TrainingError: It is no ``tokenizer.json``.
        PrivateVocabulary: It does tell; the tokens are named.
    """
    told = [piece for piece in _pieces(tokenizer_json) if _tells(piece, private_words)]
    if told:
        named = ", ".join(repr(piece) for piece in told[:5])
        raise PrivateVocabulary(
            f"the vocabulary holds what may be an address, a host, a number or a name, in {len(told)} of its tokens: "
            f"{named}; learn it from words that more texts have in common"
        )


def _tells(piece: str, private_words: Set[str]) -> bool:
    if _ADDRESS.search(piece):
        return True
    if piece.startswith(_INSIDE):
        return len(piece) - len(_INSIDE) >= SHORTEST_NAME and piece.removeprefix(_INSIDE) in private_words
    return piece in private_words


def _pieces(tokenizer_json: bytes | str) -> list[str]:
    try:
        content: Any = json.loads(tokenizer_json)
        vocabulary = content["model"]["vocab"]
        merges = content["model"].get("merges", [])
        added = [token["content"] for token in content.get("added_tokens", [])]
        learned = [piece if isinstance(piece, str) else piece[0] for piece in vocabulary]  # of Unigram: with its score
        merged = ["".join(merge if isinstance(merge, list) else merge.split(" ")) for merge in merges]
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as exc:
        raise TrainingError(f"this is no tokenizer.json with a vocabulary: {exc!r}") from exc
    return [*learned, *merged, *added]


def _untrained() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.NFKC(),
            normalizers.Lowercase(),
            *(normalizers.Replace(Regex(pattern), mask) for pattern, mask in _MASKS),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()  # runs of letters and digits, and runs of other signs
    return tokenizer


def _spread(tokenizer: Tokenizer, texts: Sequence[str]) -> tuple[Counter[str], Counter[str]]:
    """Return in how many texts each word and each letter stands."""
    words: Counter[str] = Counter()
    letters: Counter[str] = Counter()
    for text in texts:
        normal = tokenizer.normalizer.normalize_str(text)
        of_text = {word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(normal)}
        words.update(of_text)
        letters.update(set().union(*of_text))
    return words, letters


def _learn(counts: Mapping[str, int], alphabet: Sequence[str], vocabulary_size: int) -> list[str]:
    trainee = Tokenizer(models.WordPiece(unk_token=UNKNOWN))
    trainee.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    # The letters are handed over in their order, as special tokens: the trainer would number those inside of words in
    # the order of a hash table, and break ties between merges by these numbers.
    letters = [*alphabet, *(f"{_INSIDE}{letter}" for letter in alphabet)]
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocabulary_size,
        special_tokens=[*SPECIAL, *letters],
        continuing_subword_prefix=_INSIDE,
        show_progress=False,
    )
    trainee.train_from_iterator((f"{word} " * count for word, count in counts.items()), trainer)
    return [piece for piece in trainee.get_vocab() if piece not in SPECIAL]


def _model(pieces: Sequence[str]) -> models.WordPiece:
    return models.WordPiece(
        {piece: token for token, piece in enumerate((*SPECIAL, *pieces))},
        unk_token=UNKNOWN,
        continuing_subword_prefix=_INSIDE,
        max_input_chars_per_word=LONGEST_WORD,
    )
