"""Errors in words: what can go wrong with a command, and what to say about it."""

from __future__ import annotations

from collections.abc import Sequence

import grpc

from shoppable.client.errors import ShoppableError

_HINTS = {
    grpc.StatusCode.UNAVAILABLE: "Is the service running, and is its address right?",
    grpc.StatusCode.PERMISSION_DENIED: "The decoder reads only below the folders that its operator allowed.",
}


class CommandError(Exception):
    """A command cannot go on; shown without a traceback."""

    def __init__(self, message: str, *, details: Sequence[str] = (), exit_code: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.details = tuple(details)
        self.exit_code = exit_code


def explain(error: Exception) -> CommandError | None:
    """Return what to show for an error; None for one that nobody foresaw, which deserves its traceback."""
    if isinstance(error, CommandError):
        return error
    if isinstance(error, ShoppableError):
        return CommandError(in_words(error), details=_details(error))
    if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):  # who stopped reading wants no words
        about = f"{error.filename}: " if error.filename else ""
        return CommandError(f"{about}{error.strerror or error}")
    return None


def in_words(error: ShoppableError) -> str:
    """Return one line for a failed call."""
    kind = error.code.name.replace("_", " ").lower()
    message = error.message if error.message.lower().startswith(kind) else f"{kind}: {error.message}"
    return f"{message} [{error.reason}]" if error.reason else message


def _details(error: ShoppableError) -> list[str]:
    # A single violation is often the message itself.
    details = [
        f"{violation.field}: {violation.description}"
        for violation in error.violations
        if violation.description not in error.message
    ]
    if error.resource_name and error.resource_name not in error.message:
        details.append(error.resource_name)
    if error.retry_after_s is not None:
        details.append(f"Try again in {error.retry_after_s:g} s.")
    elif error.code in _HINTS:
        details.append(_HINTS[error.code])
    return details
