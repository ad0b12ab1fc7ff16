"""Page tokens: where the next page begins, bound to the list that they were made for.

A token holds the last id of its page, so that it survives products that come and go. The checksum is no secret: it
catches tokens that were cut, changed or taken to another list, and a forged one can do no more than an honest one.
"""

import base64
import binascii
import hashlib

_CHECKSUM_BYTES = 9


def page_token(scope: str, last_id: str) -> str:
    """Return the token of the page after `last_id`, in the list that `scope` describes."""
    return base64.urlsafe_b64encode(_checksum(scope, last_id) + last_id.encode()).decode()


def read_page_token(scope: str, token: str) -> str | None:
    """Return the id after which the page begins, "" for the first page, None if the token is not of this list."""
    if not token:
        return ""
    try:
        data = base64.b64decode(token.encode(), altchars=b"-_", validate=True)
        last_id = data[_CHECKSUM_BYTES:].decode()
    except (ValueError, binascii.Error):
        return None
    return last_id if last_id and data[:_CHECKSUM_BYTES] == _checksum(scope, last_id) else None


def _checksum(scope: str, last_id: str) -> bytes:
    return hashlib.sha256(f"{scope}\0{last_id}".encode()).digest()[:_CHECKSUM_BYTES]
