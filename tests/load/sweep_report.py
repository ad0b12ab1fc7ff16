"""The report of a sweep, in Markdown."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ghz import Step
from saturation import per_core, saturation, shares
from scenarios import Load, methods

SMALL, LARGE, STREAM = "call, empty", "call, 100 kB", "stream, empty"
_LARGE_BYTES = 20_000


def markdown(
    steps: Mapping[str, Sequence[Step]],
    echoes: Mapping[str, Sequence[Step]],
    loads: Mapping[str, Load],
    together: Mapping[str, Any] | None,
    *,
    on: str,
    cores: int,
    took_s: float,
    mixed_s: int,
) -> str:
    """Write the report.

    Args:
        steps: Of each RPC, by its full name.
        echoes: Of the bare server, by the kind of call.
        loads: What each RPC was asked for.
        together: k6's metrics of mixed traffic, if there was any.
        on: The machine.
        cores: How many it has.
        took_s: How long the sweep took.
        mixed_s: How long the mixed traffic took.
    """
    lines = [
        "# What each RPC gives",
        "",
        f"Written by `make load` in {took_s:.0f} s on {on}. Suite, inference and callers share these cores.",
        "",
        *_chief(steps, loads, cores),
        *_bare(steps, echoes, loads, cores),
        *_mixed(together, mixed_s),
        *_every_step(steps),
    ]
    return "\n".join(lines) + "\n"


def _chief(steps: Mapping[str, Sequence[Step]], loads: Mapping[str, Load], cores: int) -> Iterator[str]:
    yield "## Where each stops"
    yield ""
    yield "The fewest calls at a time that bring 95 % of an RPC's best rate, and what is used up there."
    yield ""
    yield "| RPC | a call is | at a time | calls/s | p50 | p95 | p99 | used up: cores had |"
    yield "| --- | --- | --: | --: | --: | --: | --: | --- |"
    for server, method in methods():
        if taken := steps.get(method.full_name):
            found = saturation(taken, server, cores)
            step = found.step
            yield (
                f"| {method.name} | {loads[method.full_name].what} | {step.concurrency} | {_number(step.per_s)} |"
                f" {_ms(step.p50_ms)} | {_ms(step.p95_ms)} | {_ms(step.p99_ms)} | {found.reason} |"
            )
    yield ""


def _bare(
    steps: Mapping[str, Sequence[Step]], echoes: Mapping[str, Sequence[Step]], loads: Mapping[str, Load], cores: int
) -> Iterator[str]:
    yield "## Beside a bare server"
    yield ""
    yield "Calls a second for each core that the service's own process had (with its workers; not Triton, not the other"
    yield "services), beside a bare grpc.aio server that sends back what it gets, unread, in the same run."
    yield ""
    yield "| bare server | calls/s | calls/s per core |"
    yield "| --- | --: | --: |"
    bare = {}
    for kind, taken in echoes.items():
        best = max(taken, key=lambda step: step.per_s)
        bare[kind] = per_core(best, "echo")
        yield f"| {kind} | {_number(best.per_s)} | {_number(bare[kind])} |"
    yield ""
    yield "| RPC | process | calls/s per core | of the bare server's | compared with |"
    yield "| --- | --- | --: | --: | --- |"
    for server, method in methods():
        if taken := steps.get(method.full_name):
            own = per_core(saturation(taken, server, cores).step, server)
            kind = _kind(loads[method.full_name], streams=method.client_streaming or method.server_streaming)
            yield f"| {method.name} | {server} | {_number(own)} | {own / bare[kind]:.1%} | {kind} |"
    yield ""


def _kind(load: Load, *, streams: bool) -> str:
    if streams:
        return STREAM
    return LARGE if sum(request.ByteSize() for request in load.requests) > _LARGE_BYTES else SMALL


def _mixed(together: Mapping[str, Any] | None, seconds: int) -> Iterator[str]:
    if together is None:
        return
    yield f"## All at a time, for {seconds} s"
    yield ""
    yield "Each RPC at its own steady rate, by k6."
    yield ""
    yield "| RPC | asked for | ended well | p50 | p95 | p99 |"
    yield "| --- | --: | --: | --: | --: | --: |"
    for _, method in methods():
        checks = together.get(f"checks{{scenario:{method.name}}}")
        took = together.get(f"iteration_duration{{scenario:{method.name}}}")
        if checks and took:
            asked = checks["passes"] + checks["fails"]
            yield (
                f"| {method.name} | {asked} | {checks['passes']} |"
                f" {_ms(took['med'])} | {_ms(took['p(95)'])} | {_ms(took['p(99)'])} |"
            )
    dropped = together.get("dropped_iterations", {}).get("count", 0)
    yield ""
    yield f"Not asked for, since too many calls were in work: {dropped:.0f}."
    yield ""


def _every_step(steps: Mapping[str, Sequence[Step]]) -> Iterator[str]:
    yield "## Every step"
    yield ""
    yield "| RPC | at a time | calls/s | p50 | p95 | p99 | not OK | cores had |"
    yield "| --- | --: | --: | --: | --: | --: | --- | --- |"
    for _, method in methods():
        for step in steps.get(method.full_name, ()):
            others = ", ".join(f"{count} {code}" for code, count in step.codes.items() if code != "OK")
            yield (
                f"| {method.name} | {step.concurrency} | {_number(step.per_s)} | {_ms(step.p50_ms)} |"
                f" {_ms(step.p95_ms)} | {_ms(step.p99_ms)} | {others} | {shares(step.cpu)} |"
            )


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _ms(value: float) -> str:
    return f"{value:.0f} ms" if value >= 10 else f"{value:.1f} ms"
