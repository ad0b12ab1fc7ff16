"""Finds out who calls, from what the call brings: a key, a token, or the certificate of its connection."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shoppable.runtime.auth.callers import Caller, CallerTable, Quota, read_callers
from shoppable.runtime.errors import UnauthenticatedError
from shoppable.runtime.settings import ServerSettings
from shoppable.runtime.watched_files import ConfigurationError, WatchedFiles

if TYPE_CHECKING:
    from shoppable.runtime.auth.key_sets import KeySource
    from shoppable.runtime.auth.tokens import TokenRules

Metadata = Sequence[tuple[str, str | bytes]]
PeerFacts = Mapping[str, Iterable[bytes]]
_SECRET_LIMIT = 8192  # characters


@dataclass(frozen=True)
class _Tokens:
    source: "KeySource"
    rules: "TokenRules"


class Authenticator:
    """Knows the callers of one server."""

    def __init__(self, settings: ServerSettings) -> None:
        """Read what the settings name.

        Raises:
            ConfigurationError: It cannot be used; the text names the setting or file.
        """
        self._quota = Quota(
            requests_per_second=settings.quota_requests_per_second,
            burst=settings.quota_burst,
            concurrent_calls=settings.quota_concurrent_calls,
        )
        self._callers: WatchedFiles[CallerTable] | None = None
        if path := settings.auth_callers_file:
            self._callers = WatchedFiles([path], lambda: read_callers(path, self._quota))
        self._tokens = self._prepare_tokens(settings)
        # Mutual TLS alone is enough where nothing else says who may come: its authority vouches for all.
        self._certificates_suffice = bool(settings.tls_client_ca_file) and not (self._callers or self._tokens)

    @property
    def asks(self) -> bool:
        """Whether callers have to show who they are."""
        return bool(self._callers or self._tokens or self._certificates_suffice)

    async def caller(self, metadata: Metadata, peer: PeerFacts) -> Caller:
        """Return who calls.

        Args:
            metadata: What the call brings: `authorization: Bearer …` with a key or a token, or `x-api-key: …`.
            peer: gRPC's facts about the connection; certificates in them are verified.

        Raises:
            UnauthenticatedError: Nobody that we know; no text quotes what was sent.
        """
        if secret := _secret_of(metadata):
            return await self._of_secret(secret)
        names = [
            name.decode("ascii", "replace")
            for fact in ("x509_subject_alternative_name", "x509_common_name")
            for name in peer.get(fact, ())
        ]
        if names and self._callers and (known := self._callers.value().of_certificate(names)):
            return known
        if names and self._certificates_suffice:
            return Caller(names[0], "certificate", rpcs=("*",), catalogs=("*",), quota=self._quota)
        raise UnauthenticatedError(
            "say who calls: send the metadata `authorization: Bearer` with a key or token, or a client certificate"
            " that the server knows",
            reason="CREDENTIAL_MISSING",
        )

    async def _of_secret(self, secret: str) -> Caller:
        if self._tokens and secret.count(".") == 2:
            from shoppable.runtime.auth import tokens

            source, rules = self._tokens.source, self._tokens.rules
            try:
                return tokens.verify(secret, await source.keys(), rules)
            except tokens.UnknownKeyError:
                try:
                    return tokens.verify(secret, await source.keys(newer=True), rules)
                except tokens.UnknownKeyError as error:
                    raise UnauthenticatedError(
                        "the token is not valid here: none of the issuer's keys has signed it", reason="TOKEN_INVALID"
                    ) from error
        if self._callers and (known := self._callers.value().of_key(secret)):
            return known
        raise UnauthenticatedError("the server does not know this key", reason="CREDENTIAL_UNKNOWN")

    def _prepare_tokens(self, settings: ServerSettings) -> _Tokens | None:
        path, url = settings.auth_jwt_keys_file, settings.auth_jwt_keys_url
        if path is None and url is None:
            return None
        if path and url:
            raise ConfigurationError("set auth_jwt_keys_file or auth_jwt_keys_url, not both")
        if not settings.auth_jwt_issuer or not settings.auth_jwt_audience:
            raise ConfigurationError("tokens need auth_jwt_issuer and auth_jwt_audience: others' must not be taken")
        try:
            from shoppable.runtime.auth import key_sets, tokens
        except ModuleNotFoundError as error:
            raise ConfigurationError(
                f"{error.name} is not installed; tokens need pip install 'shoppable[auth]'"
            ) from error
        unknown = sorted(set(settings.auth_jwt_algorithms) - set(tokens.ALGORITHMS))
        if unknown or not settings.auth_jwt_algorithms:
            raise ConfigurationError(f"auth_jwt_algorithms must be of {', '.join(tokens.ALGORITHMS)}")
        source: KeySource
        if path:
            source = key_sets.KeyFile(path)
        elif url:
            source = key_sets.KeyAddress(url)
        rules = tokens.TokenRules(
            settings.auth_jwt_issuer, settings.auth_jwt_audience, settings.auth_jwt_algorithms, self._quota
        )
        return _Tokens(source, rules)


def _secret_of(metadata: Metadata) -> str:
    """Return the key or token that a call brings, or an empty text."""
    for name, value in metadata:
        if not isinstance(value, str) or len(value) > _SECRET_LIMIT:
            continue
        if name == "x-api-key":
            return value.strip()
        scheme, _, secret = value.partition(" ")
        if name == "authorization" and scheme.lower() == "bearer":
            return secret.strip()
    return ""
