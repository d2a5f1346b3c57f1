from training.data._names import names_of_persons, words_of_headers


def test_names_are_read_from_the_headers_of_persons():
    raw = (
        b'From: "Ada King" <ada@example.org>\nTo: Blaise <b@example.org>, =?utf-8?q?Ren=C3=A9?= <r@example.org>\n'
        b"Cc: nobody@example.org\nSubject: Carl wrote\n\nFrom: Dora <d@example.org>"
    )
    assert words_of_headers(raw) == {"ada", "king", "blaise", "rené"}


def test_words_that_are_mostly_written_small_are_no_names():
    texts = ["I will ask Ada and King Arthur", "the king will see Ada", "a king, the king, and ada"]
    assert names_of_persons({"ada", "will", "king", "unseen"}, texts) == {"ada", "unseen"}
