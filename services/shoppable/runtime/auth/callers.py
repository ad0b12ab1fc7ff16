"""Callers, their rights, and the file that lists them: `auth_callers_file`.

    [callers.web-shop]
    sha256 = ["9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"]   # of the API key; two to rotate
    certificates = ["web-shop.example"]                     # or: names in its client certificate
    rpcs = ["shoppable.v1.OrchestratorService/*"]           # what it may call
    catalogs = ["summer", "sale-*"]                         # which catalogues it may name
    requests_per_second = 20.0
    burst = 40
    concurrent_calls = 8

The file holds digests, not keys. SHA-256 without salt is enough for keys that a machine has drawn, at 128 bits or more,
and for no others.
"""

import fnmatch
import hashlib
import hmac
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shoppable.runtime import toml
from shoppable.runtime.watched_files import ConfigurationError

RPC_PATTERN = re.compile(r"[A-Za-z0-9_.*]+(/[A-Za-z0-9_*]+)?")
CATALOG_PATTERN = re.compile(r"[a-z0-9*-]+")
CALLER_NAME = re.compile(r"[\x21-\x7e]{1,200}")


@dataclass(frozen=True)
class Quota:
    """What a caller may ask of one server; None is no bound."""

    requests_per_second: float | None = None
    burst: int | None = None  # calls at once after a pause; default: a second's worth
    concurrent_calls: int | None = None


@dataclass(frozen=True)
class Caller:
    """Somebody whom the server knows."""

    name: str  # fit for logs
    kind: str  # "api_key", "jwt" or "certificate"
    rpcs: tuple[str, ...] = ()
    catalogs: tuple[str, ...] = ()
    quota: Quota = field(default_factory=Quota)

    def may_call(self, service: str, method: str) -> bool:
        """Tell whether a pattern allows the RPC; `*` stands for any characters."""
        return any(fnmatch.fnmatchcase(f"{service}/{method}", pattern) for pattern in self.rpcs)

    def may_use(self, catalog_id: str) -> bool:
        """Tell whether a pattern allows the catalogue."""
        return any(fnmatch.fnmatchcase(catalog_id, pattern) for pattern in self.catalogs)

    @property
    def may_use_all(self) -> bool:
        """Whether every catalogue is allowed, those to come included."""
        return "*" in self.catalogs


_Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Rpc = Annotated[str, Field(pattern=f"^{RPC_PATTERN.pattern}$")]
_Catalog = Annotated[str, Field(pattern=f"^{CATALOG_PATTERN.pattern}$")]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    sha256: list[_Digest] = []
    certificates: list[str] = []
    rpcs: list[_Rpc]
    catalogs: list[_Catalog] = []
    requests_per_second: float | None = Field(None, gt=0)
    burst: int | None = Field(None, ge=1)
    concurrent_calls: int | None = Field(None, ge=1)


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    callers: dict[Annotated[str, Field(pattern=f"^{CALLER_NAME.pattern}$")], _Entry]


class CallerTable:
    """The callers of a file."""

    def __init__(self, by_digest: Mapping[bytes, Caller], by_certificate: Mapping[str, Caller]) -> None:
        self._by_digest = tuple(by_digest.items())
        self._by_certificate = dict(by_certificate)

    def of_key(self, key: str) -> Caller | None:
        """Return whose API key it is; in a time that does not depend on how much of it is right."""
        digest = hashlib.sha256(key.encode()).digest()
        found = None
        for known, caller in self._by_digest:
            if hmac.compare_digest(known, digest):
                found = caller
        return found

    def of_certificate(self, names: Sequence[str]) -> Caller | None:
        """Return the caller that one of a verified certificate's names belongs to."""
        return next((self._by_certificate[name] for name in names if name in self._by_certificate), None)


def read_callers(path: Path, default: Quota) -> CallerTable:
    """Read the file; `default` is the quota of those who have none of their own.

    Raises:
        OSError, ConfigurationError: It cannot be read, or is wrong; no text quotes a digest.
    """
    text = ""
    try:
        text = path.read_text()
        entries = _File.model_validate(toml.parse(text)).callers
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"{path} is no TOML: {error}") from error
    except ValidationError as error:
        fields = [(".".join(map(str, item["loc"])), item["msg"]) for item in error.errors()]
        wrong = "; ".join(f"{toml.with_line(text, field)}: {message}" for field, message in fields)
        raise ConfigurationError(f"{path}: {wrong}") from error
    by_digest: dict[bytes, Caller] = {}
    by_certificate: dict[str, Caller] = {}
    for name, entry in entries.items():
        if not entry.sha256 and not entry.certificates:
            raise ConfigurationError(f"{path}: callers.{name} needs sha256 or certificates, or nobody can be it")
        rights = {"rpcs": tuple(entry.rpcs), "catalogs": tuple(entry.catalogs)}
        quota = Quota(
            entry.requests_per_second or default.requests_per_second,
            entry.burst or (None if entry.requests_per_second else default.burst),
            entry.concurrent_calls or default.concurrent_calls,
        )
        for kind, table, keys in (
            ("api_key", by_digest, [bytes.fromhex(digest) for digest in entry.sha256]),
            ("certificate", by_certificate, entry.certificates),
        ):
            caller = Caller(name, kind, quota=quota, **rights)
            for key in keys:
                if key in table:
                    raise ConfigurationError(f"{path}: callers.{name} has a key or certificate of another caller")
                table[key] = caller  # type: ignore[index]  # each table with its own kind of key
    return CallerTable(by_digest, by_certificate)
