import random

from training.data._duplicates import fraction_of, normalized, unique

WORDS = [f"{first}{second}" for first in "bcdfghjklm" for second in ("an", "en", "in", "on", "un")]


def text(seed, length=200):
    return " ".join(random.Random(seed).choices(WORDS, k=length))


def test_digits_links_addresses_case_and_blanks_do_not_make_another_text():
    one = "Dear A, Your CODE 123\n\nsee http://example.org/a1 or write to a@example.org"
    other = "dear a -- your code 99, see www.example.com/other or  write to someone.else@example.net!"
    assert normalized(one) == normalized(other) == "dear a your code see or write to"
    assert unique([one, "another text", other]).kept == (0, 1)
    assert unique([one, "another text", other]).num_same == 1


def test_a_text_with_a_few_other_words_is_nearly_the_same():
    words = text(0).split()
    words[100] = "other"
    found = unique([text(0), text(1), " ".join(words)])
    assert (found.kept, found.num_same, found.num_near) == ((0, 1), 0, 1)


def test_texts_that_share_half_of_their_words_both_stay():
    shared = text(0)
    assert unique([shared + " " + text(1), shared + " " + text(2)]).kept == (0, 1)


def test_a_short_text_is_no_copy_of_a_long_one_that_holds_it():
    assert unique([text(0), " ".join(text(0).split()[:20])]).kept == (0, 1)


def test_short_texts_are_compared_too():
    assert unique(["one", "two", "One!", "", "  "]).kept == (0, 1, 3)


def test_what_is_kept_depends_on_no_hash_seed_and_fractions_are_spread():
    assert fraction_of("the same TEXT 1") == fraction_of("The same text 2")
    fractions = [fraction_of(text(seed, 5)) for seed in range(2000)]
    assert 0 <= min(fractions) < 0.01
    assert 0.99 < max(fractions) < 1
    assert abs(sum(fraction < 0.7 for fraction in fractions) / 2000 - 0.7) < 0.03
    assert fraction_of("hello") == 0x2CF24DBA5FB0A30E / 2**64  # the first bytes of the SHA-256 of "hello"
