"""Settings that every server has, and the one way in which all settings are loaded.

Strongest first: a flag (`--port 50051`), the service's own variable (`SHOPPABLE_DECODER_PORT`), the suite's variable
(`SHOPPABLE_PORT`), the service's table in the TOML file (`[decoder] port = 50051`), the file's top level (`port =
50051`), the default. The file is named by `--config` or SHOPPABLE_CONFIG.
"""

import argparse
import os
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal, NoReturn, TypeVar

from pydantic import BeforeValidator, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from shoppable.runtime.settings_file import PREFIX, SettingsError, SettingsFile

SettingsT = TypeVar("SettingsT", bound="ServerSettings")


def split_list(value: object) -> object:
    """Read a,b,c as a list; leave all else as it is."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


# Lists are written a,b,c in flags and variables, and as lists in the file.
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(split_list)]
Paths = Annotated[tuple[Path, ...], NoDecode, BeforeValidator(split_list)]


class ServerSettings(BaseSettings):
    """What can be set on every server."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")
    # The service's short name, for its variables and its table in the file.
    service: ClassVar[str] = "server"

    host: str = Field("127.0.0.1", description="address to listen on; 0.0.0.0 or [::] in a container")
    port: int = Field(0, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    metrics_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="port of the Prometheus endpoint /metrics; 0 takes a free one; unset: none",
    )
    health_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="port that serves health alone and without TLS, for probes that speak none, as Kubernetes' own;"
        " 0 takes a free one; unset: health is on the main port only",
    )
    max_connection_age_s: float | None = Field(
        None,
        gt=0,
        description="seconds after which a connection is to be replaced, when its calls have ended: clients then look"
        " up the replicas anew; unset: never",
    )
    address_file: Path | None = Field(
        None, description="file to write the bound address to, once the server listens: host:port"
    )
    log_format: Literal["json", "human"] = Field("json", description="form of the logs on stderr")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="lowest level that is logged")
    max_message_bytes: int = Field(32 * 2**20, ge=2**16, description="largest message that is taken or sent")
    max_concurrent_calls: int = Field(
        64,
        ge=1,
        description="calls in work at a time; more are refused with RESOURCE_EXHAUSTED and RetryInfo",
    )
    max_calls_per_caller: int | None = Field(
        None, ge=1, description="calls of one caller in work at a time; unset: as many as of all"
    )
    max_queued_calls: int = Field(
        0, ge=0, description="calls that may wait for their turn, callers in turns, before more are refused"
    )
    queue_wait_s: float = Field(5.0, gt=0, description="seconds that a call may wait for its turn")
    caller_key: str | None = Field(
        None,
        pattern=r"^[a-z0-9_.-]+$",
        description="metadata key that names the caller, where something trusted sets it, as the orchestrator does"
        " (x-shoppable-caller); unset: a caller is the address that it calls from",
    )
    shutdown_grace_s: float = Field(20.0, ge=0, description="seconds that running calls have to finish after SIGTERM")
    shutdown_delay_s: float = Field(
        0.0,
        ge=0,
        description="seconds between turning NOT_SERVING and refusing new calls, for balancers to notice",
    )
    health_interval_s: float = Field(5.0, gt=0, description="seconds between two checks of what the service needs")
    health_timeout_s: float = Field(5.0, gt=0, description="seconds that such a check may take")
    otlp_endpoint: str | None = Field(
        None, description="OpenTelemetry collector that takes traces over gRPC, such as http://collector:4317"
    )

    tls_certificate_file: Path | None = Field(
        None, description="PEM chain of the server; unset: no TLS; read again when it changes"
    )
    tls_key_file: Path | None = Field(None, description="PEM key of the server, not encrypted")
    tls_client_ca_file: Path | None = Field(
        None, description="PEM roots that clients' certificates must come from; unset: clients need none"
    )
    auth_callers_file: Path | None = Field(
        None, description="TOML table of callers: digests of their API keys, rights, quotas; read again when it changes"
    )
    auth_jwt_keys_file: Path | None = Field(
        None, description="public keys that sign callers' tokens: a JWK set or a PEM key; read again when it changes"
    )
    auth_jwt_keys_url: str | None = Field(None, description="https address of a JWK set, in place of the file")
    auth_jwt_issuer: str | None = Field(None, description="what tokens must have as iss; needed with tokens")
    auth_jwt_audience: str | None = Field(None, description="what tokens must have as aud; needed with tokens")
    auth_jwt_algorithms: Names = Field(
        ("RS256", "ES256", "EdDSA"), description="signatures that tokens may have, as a,b,c"
    )
    auth_open_reflection: bool = Field(False, description="whether reflection answers callers that are not known")
    quota_requests_per_second: float | None = Field(
        None, gt=0, description="calls a second of each caller that has no bound of its own; unset: no bound"
    )
    quota_burst: int | None = Field(None, ge=1, description="calls at once after a pause; unset: a second's worth")
    quota_concurrent_calls: int | None = Field(
        None, ge=1, description="calls in work of each caller that has no bound of its own; unset: no bound"
    )
    allow_insecure: bool = Field(
        False, description="whether to listen beyond this machine without TLS or without knowing callers"
    )
    peer_tls: bool = Field(False, description="whether the servers that this one calls speak TLS")
    peer_ca_file: Path | None = Field(None, description="PEM roots of their certificates; implies peer_tls")
    peer_certificate_file: Path | None = Field(None, description="PEM chain to show them; implies peer_tls")
    peer_key_file: Path | None = Field(None, description="PEM key of that chain")
    peer_api_key_file: Path | None = Field(
        None, description="file with the API key to show the suite's own services; read again when it changes"
    )

    @property
    def speaks_tls_to_peers(self) -> bool:
        """Whether outgoing calls use TLS."""
        return self.peer_tls or self.peer_ca_file is not None or self.peer_certificate_file is not None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order the sources, strongest first; `init_settings` are the flags."""
        return (
            init_settings,
            EnvSettingsSource(settings_cls, env_prefix=f"{PREFIX}{cls.service.upper()}_"),
            EnvSettingsSource(settings_cls, env_prefix=PREFIX),
            InitSettingsSource(settings_cls, init_kwargs=SettingsFile.named().values(cls.service, cls.model_fields)),
        )


def _told(kind: type[ServerSettings], place: Sequence[str | int], problem: str, flags: Collection[str]) -> str:
    """Say what is wrong with a value and where it comes from; values that do not go together have no place."""
    if not place:
        return problem
    return f"{'.'.join(map(str, place))}: {problem} ({_source(kind, str(place[0]), flags)})"


def _source(kind: type[ServerSettings], name: str, flags: Collection[str]) -> str:
    """Say where a value comes from, strongest first."""
    if name in flags:
        return f"the flag --{name.replace('_', '-')}"
    for variable in (f"{PREFIX}{kind.service.upper()}_{name.upper()}", f"{PREFIX}{name.upper()}"):
        if variable in os.environ:
            return f"the variable {variable}"
    file = SettingsFile.named()
    line = file.line_of(kind.service, name)
    return f"{file.path}, line {line}" if line else "the default"


class _Parser(argparse.ArgumentParser):
    """Complains in one line that says where help is."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; try --help\n")


def load(kind: type[SettingsT], arguments: Sequence[str], *, prog: str) -> SettingsT:
    """Load settings from the command line's `arguments`, the environment, the file and the defaults.

    Exits after `--help` (0) or a flag that does not exist (2).

    Raises:
        SettingsError: A value is wrong; the text names the setting and the flag, variable, or line that it is from.
    """
    parser = _Parser(
        prog=prog,
        description=f"{(kind.__doc__ or '').strip()} Each flag is also a variable, "
        f"{PREFIX}{kind.service.upper()}_<NAME>, and a key of the table [{kind.service}] of the settings file.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--config", help=f"TOML file with settings; also {PREFIX}CONFIG")
    for name, field in kind.model_fields.items():
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            dest=name,
            default=argparse.SUPPRESS,
            metavar="VALUE",
            help=f"{field.description} (default: {field.get_default(call_default_factory=True)})".replace("%", "%%"),
        )
    flags = vars(parser.parse_args(list(arguments)))
    config = flags.pop("config")
    if config:
        os.environ[f"{PREFIX}CONFIG"] = config
    try:
        return kind(**flags)
    except ValidationError as error:
        wrong = "; ".join(_told(kind, item["loc"], item["msg"], flags) for item in error.errors())
        raise SettingsError(f"wrong settings for {kind.service}: {wrong}") from error


def load_or_exit(kind: type[SettingsT], arguments: Sequence[str], *, prog: str) -> SettingsT:
    """As `load`, for a process's entry point: a wrong setting ends it with status 2 and one line."""
    try:
        return load(kind, arguments, prog=prog)
    except SettingsError as error:
        sys.stderr.write(f"{prog}: {error}\n")
        raise SystemExit(2) from error
