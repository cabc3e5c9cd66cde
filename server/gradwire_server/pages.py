"""Page tokens: opaque to clients, checked against the call that they continue."""

from __future__ import annotations

import base64
import hashlib
from typing import Final

from gradwire_server.errors import ServiceError

_DIGEST_BYTES: Final = 8


def make_token(call: bytes, position: str) -> str:
    """The token of the page after `position`, for a call that says `call` apart from its page."""
    held = position.encode()
    return base64.urlsafe_b64encode(_digest(call, held) + held).decode()


def read_token(call: bytes, token: str) -> str | None:
    """The position that a token holds; None for the first page.

    Raises:
        ServiceError: BAD_PAGE_TOKEN.
    """
    if not token:
        return None
    try:
        raw = base64.b64decode(token, altchars=b"-_", validate=True)
        held = raw[_DIGEST_BYTES:]
        if raw[:_DIGEST_BYTES] == _digest(call, held):
            return held.decode()
    except ValueError:
        pass
    raise bad_token(token)


def make_numbers(call: bytes, *position: int) -> str:
    """As `make_token`, for a position of several numbers."""
    return make_token(call, " ".join(map(str, position)))


def read_numbers(call: bytes, token: str, count: int) -> list[int] | None:
    """As `read_token`, of a position of so many numbers."""
    position = read_token(call, token)
    if position is None:
        return None
    parts = position.split(" ")
    if len(parts) != count or not all(map(str.isdecimal, parts)):
        raise bad_token(token)
    return [int(each) for each in parts]


def read_number(call: bytes, token: str) -> int | None:
    """As `read_token`, of a position that is a number."""
    position = read_numbers(call, token, 1)
    return None if position is None else position[0]


def page_size(asked: int, default: int, most: int) -> int:
    """The size of a page: the default for 0, never more than `most`.

    Raises:
        ServiceError: BAD_VALUE for a negative one.
    """
    if asked < 0:
        raise ServiceError(
            "BAD_VALUE",
            f"page_size {asked} is negative; 0 means {default}",
            field="page_size",
            metadata={"page_size": asked},
        )
    return min(asked or default, most)


def bad_token(token: str) -> ServiceError:
    """The failure for a token that is none."""
    return ServiceError(
        "BAD_PAGE_TOKEN",
        "the page token is not one that this call gave out; leave it empty for the first page, and "
        "repeat the other fields unchanged for the next ones",
        field="page_token",
        metadata={"page_token": token},
    )


def _digest(call: bytes, position: bytes) -> bytes:
    digest = hashlib.blake2b(call, digest_size=_DIGEST_BYTES)
    digest.update(len(position).to_bytes(8))
    digest.update(position)
    return digest.digest()
