"""As much of curl as the examples in the docs use, for machines that have none: ``python -m tests.support.curl``."""

import argparse
import sys
from pathlib import Path

import httpx


def main(arguments: list[str]) -> int:
    """Send one request and print the answer, its head too with ``-i``."""
    parser = argparse.ArgumentParser(prog="curl", allow_abbrev=False)
    parser.add_argument("url")
    parser.add_argument("-s", action="store_true", help="nothing to be silent about")
    parser.add_argument("-i", action="store_true")
    parser.add_argument("--compressed", action="store_true", help="asked for, and undone, in any case")
    parser.add_argument("-X", dest="method")
    parser.add_argument("-H", dest="headers", action="append", default=[])
    parser.add_argument("-d", "--data-binary", dest="data")
    parser.add_argument("-F", dest="form")
    options = parser.parse_args(arguments)
    headers = dict(header.split(": ", 1) for header in options.headers)
    content, files = None, None
    if options.data is not None:
        content = read(options.data)
        headers.setdefault("content-type", "application/x-www-form-urlencoded")
    if options.form is not None:
        name, _, value = options.form.partition("=")
        files = {name: (Path(value[1:]).name, read(value))}
    url = options.url if "://" in options.url else f"http://{options.url}"
    method = options.method or ("GET" if content is None and files is None else "POST")
    response = httpx.request(method, url, headers=headers, content=content, files=files, timeout=30)
    if options.i:
        head = [f"HTTP/1.1 {response.status_code} {response.reason_phrase}"]
        head += [f"{name}: {value}" for name, value in response.headers.items()]
        sys.stdout.write("\r\n".join([*head, "", ""]))
    sys.stdout.write(response.text)
    return 0


def read(value: str) -> bytes:
    """Return what follows an option: the text itself, or with ``@`` the file of that name, ``-`` for standard input."""
    if not value.startswith("@"):
        return value.encode()
    return sys.stdin.buffer.read() if value == "@-" else Path(value[1:]).read_bytes()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
