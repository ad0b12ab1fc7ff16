"""JSON web tokens as credentials: signed by the operator's issuer, for this audience, and not expired.

The rights are in the claim `scope`, words with spaces between them: `rpc:shoppable.v1.OrchestratorService/*` and
`catalog:summer`; patterns as in the table of callers. Words of other kinds are other services' business. A key is used
with the one algorithm that its type stands for, whatever a token's header says. Needs the extra `auth`.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from shoppable.runtime.auth.callers import CALLER_NAME, CATALOG_PATTERN, RPC_PATTERN, Caller, Quota
from shoppable.runtime.errors import UnauthenticatedError
from shoppable.runtime.watched_files import ConfigurationError

ALGORITHMS = ("RS256", "ES256", "EdDSA")
_CLOCKS_DIFFER_S = 10
_SMALLEST_RSA_BITS = 2048


class UnknownKeyError(Exception):
    """No key that we have could have signed the token; the issuer may have newer ones."""


@dataclass(frozen=True)
class VerificationKey:
    """A public key, the algorithm that it is for, and its name in tokens' headers; None if it has none."""

    key: Any
    algorithm: str
    key_id: str | None


@dataclass(frozen=True)
class TokenRules:
    """What a token must say."""

    issuer: str
    audience: str
    algorithms: tuple[str, ...]
    quota: Quota  # of its caller


def read_key_file(path: Path) -> tuple[VerificationKey, ...]:
    """Read a PEM public key or a JWK set.

    Raises:
        OSError, ConfigurationError
    """
    content = path.read_bytes()
    if not content.lstrip().startswith(b"-----BEGIN"):
        return parse_key_set(content, str(path))
    try:
        key = load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigurationError(f"{path} holds no PEM public key") from error
    return (VerificationKey(key, _algorithm_of(key, str(path)), None),)


def parse_key_set(content: bytes, source: str) -> tuple[VerificationKey, ...]:
    """Read a JWK set; keys that are not for signatures, or of other types, are left out.

    Raises:
        ConfigurationError: It is no set, or no key of it can be used.
    """
    try:
        entries = json.loads(content)["keys"]
        found = []
        for entry in entries:
            if entry.get("kty") in ("RSA", "EC", "OKP") and entry.get("use", "sig") == "sig":
                key = jwt.PyJWK.from_dict({name: value for name, value in entry.items() if name != "d"}).key
                found.append(VerificationKey(key, _algorithm_of(key, source), entry.get("kid")))
    except (ValueError, KeyError, TypeError, AttributeError, jwt.PyJWTError) as error:
        raise ConfigurationError(f"{source} is no JWK set that can be used ({type(error).__name__})") from error
    if not found:
        raise ConfigurationError(f"{source} holds no public RSA, P-256 or Ed25519 key for signatures")
    return tuple(found)


def verify(token: str, keys: Sequence[VerificationKey], rules: TokenRules) -> Caller:
    """Return the caller that a token speaks for.

    Raises:
        UnauthenticatedError: The token is not to be trusted; the text does not quote it.
        UnknownKeyError
    """
    try:
        header = jwt.get_unverified_header(token)
        key = _choose(header, keys, rules)
        claims = jwt.decode(
            token,
            key.key,
            algorithms=[key.algorithm],
            issuer=rules.issuer,
            audience=rules.audience,
            leeway=_CLOCKS_DIFFER_S,
            options={"require": ["exp", "iss", "aud", "sub"]},
        )
    except jwt.ExpiredSignatureError as error:
        raise UnauthenticatedError("the token has expired; get a new one", reason="TOKEN_EXPIRED") from error
    except (jwt.PyJWTError, ValueError) as error:
        raise _invalid(_in_words(error)) from error
    subject = claims["sub"]
    if not CALLER_NAME.fullmatch(subject):
        raise _invalid("its sub must be 1..200 printable ASCII characters without spaces")
    return _caller(subject, claims.get("scope", ""), rules)


def _choose(header: dict[str, Any], keys: Sequence[VerificationKey], rules: TokenRules) -> VerificationKey:
    algorithm, key_id = header.get("alg"), header.get("kid")
    if algorithm not in rules.algorithms:
        raise _invalid(f"it must be signed with {' or '.join(rules.algorithms)}")
    fitting = [key for key in keys if key.algorithm == algorithm and key_id in (None, key.key_id)]
    unnamed = [key for key in keys if key.algorithm == algorithm and key.key_id is None]
    chosen = fitting or unnamed
    if len(chosen) != 1:
        raise UnknownKeyError
    return chosen[0]


def _caller(subject: str, scope: object, rules: TokenRules) -> Caller:
    if not isinstance(scope, str):
        raise _invalid("its scope must be one text, with spaces between the words")
    words = [word.partition(":") for word in scope.split()]
    return Caller(
        subject,
        "jwt",
        rpcs=tuple(value for kind, _, value in words if kind == "rpc" and RPC_PATTERN.fullmatch(value)),
        catalogs=tuple(value for kind, _, value in words if kind == "catalog" and CATALOG_PATTERN.fullmatch(value)),
        quota=rules.quota,
    )


def _algorithm_of(key: object, source: str) -> str:
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size < _SMALLEST_RSA_BITS:
            raise ConfigurationError(f"{source}: an RSA key must have {_SMALLEST_RSA_BITS} bits or more")
        return "RS256"
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name == "secp256r1":
        return "ES256"
    if isinstance(key, ed25519.Ed25519PublicKey):
        return "EdDSA"
    raise ConfigurationError(f"{source}: keys must be RSA, P-256 or Ed25519 public keys")


def _invalid(why: str) -> UnauthenticatedError:
    return UnauthenticatedError(f"the token is not valid here: {why}", reason="TOKEN_INVALID")


def _in_words(error: Exception) -> str:
    known: dict[type[Exception], str] = {
        jwt.InvalidIssuerError: "it comes from another issuer",
        jwt.InvalidAudienceError: "it is meant for another audience",
        jwt.InvalidSignatureError: "its signature is wrong",
        jwt.ImmatureSignatureError: "it is not valid yet; compare the clocks",
        jwt.MissingRequiredClaimError: "it must have exp, iss, aud and sub",
    }
    return next((words for kind, words in known.items() if isinstance(error, kind)), "it cannot be read")
