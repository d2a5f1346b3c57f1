from training.data._names import MIN_SENDERS, names_of_persons, sender_of, words_of_few, words_of_headers


def test_names_are_read_from_the_headers_of_persons():
    raw = (
        b'From: "Ada King" <ada@example.org>\nTo: Blaise <b@example.org>, =?utf-8?q?Ren=C3=A9?= <r@example.org>\n'
        b"Cc: nobody@example.org\nSubject: Carl wrote\n\nFrom: Dora <d@example.org>"
    )
    assert words_of_headers(raw) == {"ada", "king", "blaise", "rené"}


def test_words_that_are_mostly_written_small_are_no_names():
    texts = ["I will ask Ada and King Arthur", "the king will see Ada", "a king, the king, and ada"]
    assert names_of_persons({"ada", "will", "king", "unseen"}, texts) == {"ada", "unseen"}


def test_a_sender_is_an_address_whatever_its_name():
    assert sender_of(b'From: "Ada King" <ADA@example.org>\n\n') == sender_of(b"From: ada@example.org (A. K.)\n\n")
    assert sender_of(b"Subject: none\n\nFrom: ada@example.org") == ""


def test_words_of_many_mails_of_few_people_are_found_and_rare_words_are_not():
    texts = ["Hello, seldom"] + ["hello from Babbage Street"] * (MIN_SENDERS - 1) + ["hello"] * MIN_SENDERS
    texts = [f"{text} often" if number % 2 else text for number, text in enumerate(texts)]
    ada = ["ada"] * MIN_SENDERS
    assert words_of_few(texts, ada + ada) == {"hello", "often"}
    others = [f"sender {number}" for number in range(MIN_SENDERS)]
    assert words_of_few(texts, ada + others) == {"often"}
    assert words_of_few([f"{text} Street" for text in texts], ada + others) == {"often"}
