"""What the doctor finds: how bad it is, where, what is wrong, and what to do."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Severity(enum.StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        severity: How bad it is.
        subject: Which service, or "suite" for what concerns several.
        code: Stable, for programs, such as `CERTIFICATE_EXPIRED`.
        text: What is the case, in one sentence for people.
        remedy: What to do about it; empty if nothing is to be done.
    """

    severity: Severity
    subject: str
    code: str
    text: str
    remedy: str = ""


def ok(subject: str, code: str, text: str) -> Finding:
    """Return a finding that all is well."""
    return Finding(Severity.OK, subject, code, text)


def warning(subject: str, code: str, text: str, remedy: str) -> Finding:
    """Return a finding that can wait."""
    return Finding(Severity.WARNING, subject, code, text, remedy)


def wrong(subject: str, code: str, text: str, remedy: str) -> Finding:
    """Return a finding that keeps the installation from working."""
    return Finding(Severity.ERROR, subject, code, text, remedy)
