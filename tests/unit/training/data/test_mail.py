import base64

import pytest

from training.data._mail import header_text, html_text, text_of, tidy


def mail(body, *headers):
    head = "\n".join(("From: A Person <person@example.org>", *headers))
    return f"{head}\n\n".encode() + (body if isinstance(body, bytes) else body.encode())


def test_the_subject_and_the_body_stay_and_no_other_header():
    raw = mail("The body.\n", "Received: from relay.example.org", "Subject: A question", "X-Mailer: mailer 3")
    assert text_of(raw) == "A question\nThe body."


def test_a_mail_without_a_subject_is_its_body():
    assert text_of(mail("Only this")) == "Only this"


def test_the_line_that_a_mailbox_puts_before_a_mail_is_no_text():
    assert text_of(b"From person@example.org  Thu Aug 22 13:17:22 2002\nSubject: s\n\nbody") == "s\nbody"


@pytest.mark.parametrize(
    ("encoding", "body"),
    [("quoted-printable", b"caf=E9 =3D coff=\nee"), ("base64", base64.encodebytes(b"caf\xe9 = coffee"))],
)
def test_transfer_encodings_and_charsets_are_decoded(encoding, body):
    raw = mail(body, "Content-Type: text/plain; charset=iso-8859-1", f"Content-Transfer-Encoding: {encoding}")
    assert text_of(raw) == "café = coffee"


@pytest.mark.parametrize("charset", ["utf-8", "unknown-8bit", "default_charset", "us-ascii"])
def test_a_false_charset_is_no_error(charset):
    raw = mail(b"caf\xe9 and \x81", f"Content-Type: text/plain; charset={charset}")
    assert text_of(raw) == "café and �"


def test_encoded_words_of_a_subject_are_decoded():
    assert text_of(mail("b", "Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=")) == "Grüße\nb"
    assert header_text("=?utf-8?b?a?=") == "=?utf-8?b?a?="  # no base64
    assert header_text("=?no-such?q?caf=E9?=") == "café"


def test_of_alternatives_the_plain_one_is_read_and_an_empty_one_passed_over():
    def alternatives(plain):
        return mail(
            f"--b\nContent-Type: text/html\n\n<p>rich</p>\n--b\nContent-Type: text/plain\n\n{plain}\n--b--\n",
            'Content-Type: multipart/alternative; boundary="b"',
        )

    assert text_of(alternatives("plain")) == "plain"
    assert text_of(alternatives(" ")) == "rich"


def test_every_text_part_is_read_and_no_attachment():
    parts = [
        "Content-Type: text/plain\n\nfirst",
        "Content-Type: text/plain\nContent-Disposition: attachment\n\nattached",
        "Content-Type: image/gif\nContent-Transfer-Encoding: base64\n\nR0lGODlh",
        "Content-Type: text/html\n\n<b>second</b>",
        "Content-Type: message/rfc822\n\nSubject: inner\n\nthird",
    ]
    body = "".join(f"--b\n{part}\n" for part in parts) + "--b--\n"
    assert text_of(mail(body, 'Content-Type: multipart/mixed; boundary="b"')).split() == ["first", "second", "third"]


def test_html_that_is_declared_plain_is_read_as_html():
    assert text_of(mail("<html><body>Hello</body></html>")) == "Hello"
    assert text_of(mail("a < b, and <i> is a tag")) == "a < b, and <i> is a tag"


def test_html_becomes_text_with_the_address_of_each_link():
    html = """<style>p {color: red}</style><p>One&nbsp;&amp;
    two<br>three <!-- com<b>ment -->fo<i></i>ur
    <a href="http://example.org/x?y=1">here</a> <a href="#top">up</a> <script>var x = "<p>";</script></p>"""
    assert tidy(html_text(html)) == "One & two\nthree four here http://example.org/x?y=1 up".replace(
        "\nthree", "\nthree"
    )


@pytest.mark.parametrize(
    "html", ["<![if x]>a<![endif]>", "<!x [<b", "<a href='x", "a<", "<p" * 50, "&#999999999;a", "<![x["]
)
def test_broken_html_is_no_error(html):
    assert isinstance(html_text(html), str)


def test_white_space_is_tidied_and_control_characters_are_dropped():
    assert tidy(" a \t b\r\n\r\n \r\n\n c\x00\x07d\u200b\rx ") == "a b\n\ncd\nx"


@pytest.mark.parametrize(
    "raw", [b"", b"\n", b"\x00\xff\xfe", b"Content-Type: multipart/mixed\n\nno boundary", b"Subject"]
)
def test_what_is_no_mail_is_no_error(raw):
    assert isinstance(text_of(raw), str)
