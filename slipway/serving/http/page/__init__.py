"""The page at / and /docs: drop an image or fill in a row, see the answer; and the list of all operations."""

import base64
import hashlib
import re
from functools import cache
from pathlib import Path

_INLINE = re.compile(rb"<(script|style)>(.*?)</\1>", re.DOTALL)
_NOT_WANTED = re.compile(r"q *= *0(\.0*)?\Z")


@cache
def read_page() -> tuple[bytes, tuple[tuple[bytes, bytes], ...]]:
    """(the page, headers that let it run what stands in it and nothing else)."""
    page = (Path(__file__).parent / "index.html").read_bytes()
    hashes: dict[bytes, list[str]] = {b"script": [], b"style": []}
    for kind, content in _INLINE.findall(page):
        hashes[kind].append(f"'sha256-{base64.b64encode(hashlib.sha256(content).digest()).decode()}'")
    policy = (
        f"default-src 'none'; script-src {' '.join(hashes[b'script'])}; style-src {' '.join(hashes[b'style'])}; "
        "connect-src 'self'; img-src blob: data:; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    )
    return page, (
        (b"content-security-policy", policy.encode()),
        (b"cache-control", b"no-cache"),
        (b"vary", b"accept"),
    )


def accepts_page(accept: str) -> bool:
    """Whether an Accept header names the page's type, other than to say that it is not wanted."""
    for entry in accept.lower().split(","):
        media_type, *parameters = (part.strip() for part in entry.split(";"))
        if media_type == "text/html":
            return not any(_NOT_WANTED.match(parameter) for parameter in parameters)
    return False
