"""What every server of the suite can be asked: its health, its version, limits and clock, and whether it knows us."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from shoppable import __version__
from shoppable.cli.doctor.findings import Finding, ok, warning, wrong
from shoppable.client.errors import ShoppableError
from shoppable.runtime.exposure import is_loopback
from shoppable.runtime.server import TIME_KEY
from shoppable.v1 import server_info_pb2, server_info_pb2_grpc

TIMEOUT_S = 10.0
_CLOCKS_DIFFER_S = 5.0
_SERVING = health_pb2.HealthCheckResponse.SERVING


@dataclass(frozen=True)
class Target:
    """A server to examine."""

    subject: str  # "decoder" and so on
    address: str
    service: str  # full name of what it must serve
    channel: grpc.aio.Channel
    metadata: tuple[tuple[str, str], ...] = ()  # our credential
    shows_certificate: bool = False

    async def call(self, method: Any, request: Any, *, timeout_s: float = TIMEOUT_S) -> Any:
        """Make a call with our credential.

        Raises:
            ShoppableError
        """
        try:
            return await method(request, metadata=self.metadata, timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            raise ShoppableError.from_rpc(error) from error


@dataclass(frozen=True)
class Told:
    """What a server said of itself; None if it did not, or is not one of ours."""

    info: server_info_pb2.GetServerInfoResponse | None
    serving: bool

    def limit(self, name: str) -> int | None:
        """Return a limit's value."""
        return next((limit.value for limit in self.info.limits if limit.name == name), None) if self.info else None


async def examine(target: Target, findings: list[Finding]) -> Told:
    """Ask for health and for what the server is, and add what is to be said of it."""
    serving = await _health(target, findings)
    return Told(await _info(target, findings), serving)


async def _health(target: Target, findings: list[Finding]) -> bool:
    stub: Any = health_pb2_grpc.HealthStub(target.channel)  # its types leave the methods out
    try:
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=target.service), timeout=TIMEOUT_S)
    except grpc.aio.AioRpcError as error:
        findings.append(_not_ours(target, error))
        return False
    if answer.status == _SERVING:
        findings.append(ok(target.subject, "SERVING", "it can work"))
        return True
    findings.append(
        wrong(
            target.subject,
            "NOT_SERVING",
            "it runs, and says that it cannot work",
            "its log says why, in the record `health changed`; what it needs is examined below",
        )
    )
    return False


def _not_ours(target: Target, error: grpc.aio.AioRpcError) -> Finding:
    if error.code() is grpc.StatusCode.NOT_FOUND:
        return wrong(
            target.subject,
            "WRONG_SERVICE",
            f"{target.address} is a server, but does not serve {target.service}",
            "check the addresses: another service's may stand here",
        )
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return wrong(
            target.subject,
            "STUCK",
            f"{target.address} takes connections and does not answer",
            "restart it, and look at its CPU and log",
        )
    return wrong(
        target.subject,
        "NOT_GRPC",
        f"{target.address} does not answer gRPC's health check ({error.code().name})",
        "check that the address is the service's gRPC port, not that of metrics or of a proxy without HTTP/2",
    )


async def _info(target: Target, findings: list[Finding]) -> server_info_pb2.GetServerInfoResponse | None:
    method = server_info_pb2_grpc.ServerInfoServiceStub(target.channel).GetServerInfo
    call = method(server_info_pb2.GetServerInfoRequest(), metadata=target.metadata, timeout=TIMEOUT_S)
    asked = time.time()
    try:
        answer: server_info_pb2.GetServerInfoResponse = await call
    except grpc.aio.AioRpcError as error:
        if found := refusal(target.subject, ShoppableError.from_rpc(error)):
            findings.append(found)
        return None
    halfway = (asked + time.time()) / 2
    findings.extend(_clock(target, await call.trailing_metadata(), halfway))
    shows_nothing = not target.metadata and not target.shows_certificate
    if shows_nothing and not is_loopback(target.address.rpartition(":")[0]):
        findings.append(
            warning(
                target.subject,
                "OPEN_TO_ALL",
                f"{target.address} lets in whoever reaches it",
                "set auth_callers_file or another way to know callers, if nothing in front of it does",
            )
        )
    if answer.version != __version__:
        findings.append(
            warning(
                target.subject,
                "VERSION_DIFFERS",
                f"it runs version {answer.version}, and the doctor is {__version__}",
                "update the older one",
            )
        )
    return answer


def _clock(target: Target, metadata: Any, ours: float) -> list[Finding]:
    told = next((value for key, value in metadata or () if key == TIME_KEY), None)
    if told is None:
        return []
    difference = float(told) - ours
    if abs(difference) < _CLOCKS_DIFFER_S:
        return []
    return [
        warning(
            target.subject,
            "CLOCK_DIFFERS",
            f"its clock is {abs(difference):.0f} s {'ahead of' if difference > 0 else 'behind'} ours",
            "let both follow a time server: tokens expire by their clocks, and traces are put together by them",
        )
    ]


def refusal(subject: str, error: ShoppableError) -> Finding | None:
    """Return what a refusal of our credential means; None if the error is none."""
    if error.code is grpc.StatusCode.UNAUTHENTICATED:
        return wrong(
            subject,
            error.reason or "UNAUTHENTICATED",
            f"it does not know us: {error.message}",
            "use --api-key-file FILE with a key or token that the server knows, or --cert and --key",
        )
    if error.code is grpc.StatusCode.PERMISSION_DENIED:
        return warning(
            subject,
            error.reason or "PERMISSION_DENIED",
            f"it does not let us look: {error.message}",
            "give the doctor's caller the right, or take this as not examined",
        )
    return None
