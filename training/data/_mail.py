"""Mails as they travel become texts as people read them: the subject, a line break, the body.

All other headers are dropped: they name the machines that a mail went through, and would tell its class without its
text. Of a mail with alternatives the plain one is read; HTML is read as text, with the address of each link behind its
words, since where a link leads is what tells a false one.
"""

import email
import email.header
import re
from email.message import Message
from html.parser import HTMLParser

_BREAKS = frozenset(
    {"address", "article", "blockquote", "br", "center", "dd", "div", "dl", "dt", "form", "h1", "h2", "h3", "h4"}
    | {"h5", "h6", "hr", "li", "ol", "option", "p", "pre", "table", "td", "th", "title", "tr", "ul"}
)
_UNSEEN = frozenset({"script", "style"})
_LOOKS_LIKE_HTML = re.compile(r"\A\s*<(?:!doctype\s+html|html|head|body)\b|</(?:html|body)\s*>", re.IGNORECASE)
_ANY_TAG = re.compile(r"<[^<>]*>")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f\u200b-\u200f\ufeff]")
_BLANKS = re.compile(r"[^\S\n]+")
_MANY_LINES = re.compile(r" ?\n[ \n]*\n ?")


def text_of(raw: bytes) -> str:
    """Return the subject and the body of a mail, decoded; what cannot be decoded is replaced, never refused.

    Args:
        raw: The mail as it lies on disk, headers first.
    """
    message = email.message_from_bytes(raw)
    return tidy(f"{header_text(message['Subject'])}\n{_body(message)}")


def header_text(value: object) -> str:
    """Return a header's value with its encoded words (RFC 2047) decoded; an absent one is empty."""
    if value is None:
        return ""
    try:
        parts = email.header.decode_header(str(value))
    except (email.errors.HeaderParseError, ValueError):  # base64 that is none
        return str(value)
    return " ".join(part if isinstance(part, str) else _decode(part, charset) for part, charset in parts)


def tidy(text: str) -> str:
    """Return text without control characters, with single blanks, and with one empty line at most between lines."""
    text = _CONTROL.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    return _MANY_LINES.sub("\n\n", _BLANKS.sub(" ", text)).strip()


def _body(message: Message) -> str:
    if message.get_content_type() == "multipart/alternative" and message.is_multipart():
        texts = [(part.get_content_type() == "text/html", _body(part)) for part in _parts(message)]
        # the first plain one that says something, or the first of the others
        return next((text for _, text in sorted(texts, key=lambda each: each[0]) if text.strip()), "")
    if message.is_multipart():
        return "\n".join(filter(None, (_body(part) for part in _parts(message))))
    if message.get_content_maintype() != "text" or message.get_content_disposition() == "attachment":
        return ""
    payload = message.get_payload(decode=True)
    text = _decode(payload, message.get_content_charset()) if isinstance(payload, bytes) else ""
    is_html = message.get_content_type() == "text/html" or _LOOKS_LIKE_HTML.search(text)
    return html_text(text) if is_html else text


def _parts(message: Message) -> list[Message]:
    return [part for part in message.get_payload() if isinstance(part, Message)]


def _decode(content: bytes, charset: str | None) -> str:
    try:
        return content.decode(charset or "utf-8")
    except (LookupError, UnicodeDecodeError, ValueError):
        pass
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("cp1252", errors="replace")  # what mails of no or of a false charset mostly are


def html_text(html: str) -> str:
    """Return the text of HTML, each link followed by where it leads."""
    reader = _Reader()
    try:
        reader.feed(html)
        reader.close()
    except AssertionError:  # how html.parser meets some broken declarations
        return _ANY_TAG.sub(" ", html)
    return reader.text


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._pieces: list[str] = []
        self._link = ""
        self._unseen = ""

    @property
    def text(self) -> str:
        return "".join(self._pieces)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _UNSEEN:
            self._unseen = tag
        elif tag in _BREAKS:
            self._pieces.append("\n")
        elif tag == "a":
            link = dict(attrs).get("href") or ""
            self._link = link.strip() if link.strip().lower().startswith(("http", "mailto")) else ""

    def handle_endtag(self, tag: str) -> None:
        if tag == self._unseen:
            self._unseen = ""
        elif tag in _BREAKS:
            self._pieces.append("\n")
        elif tag == "a" and self._link:
            self._pieces.append(f" {self._link} ")
            self._link = ""

    def handle_data(self, data: str) -> None:
        if not self._unseen:
            self._pieces.append(data.replace("\n", " "))
