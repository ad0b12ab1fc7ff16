"""Where an RPC stops getting faster, and what is used up there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ghz import CALLER, Step

INFERENCE = "Triton"
REFUSED = "ResourceExhausted"  # as ghz names it
# More calls at a time that bring less than this of the best rate are no gain.
_PLATEAU = 0.95
_MACHINE_IS_FULL = 0.9
_THREAD_IS_FULL = 0.85
_TOLD = 0.15  # cores that a process must have had to be named


@dataclass(frozen=True)
class Saturation:
    """The fewest calls at a time with which an RPC gives what it can, and why it gives no more."""

    step: Step
    reason: str


def saturation(steps: Sequence[Step], server: str, cores: int) -> Saturation:
    """Find it in the steps of an RPC of the process `server`, taken on a machine of `cores` cores."""
    best = max(step.per_s for step in steps)
    step = next(step for step in steps if step.per_s >= _PLATEAU * best)
    return Saturation(step, exhausted(step, server, cores, highest=step.concurrency == steps[-1].concurrency))


def exhausted(step: Step, server: str, cores: int, *, highest: bool) -> str:
    """Say what is used up at a step; `highest` tells that no more calls at a time were tried."""
    if refused := step.codes.get(REFUSED):
        return f"the calls that the {server} takes at a time: {refused} refused"
    if sum(step.cpu.values()) >= _MACHINE_IS_FULL * cores:
        return f"the machine's cores: {shares(step.cpu)}"
    pythons = {name: had for name, had in step.cpu.items() if name not in (CALLER, INFERENCE)}
    busiest = max(pythons, key=lambda name: (pythons[name], name == server), default=server)
    if pythons.get(busiest, 0.0) >= _THREAD_IS_FULL:
        return f"one core of the {busiest}, whose Python runs on one at a time: {shares(step.cpu)}"
    if highest:
        return f"nothing yet: {shares(step.cpu)}"
    return f"no core: calls wait for each other or for a disk ({shares(step.cpu)})"


def failures(steps: Mapping[str, Sequence[Step]]) -> list[str]:
    """Say which calls ended in another way than well or refused, which no load may bring about."""
    return [
        f"{name}, {step.concurrency} at a time: {count} calls ended with {code}"
        for name, taken in steps.items()
        for step in taken
        for code, count in step.codes.items()
        if code not in ("OK", REFUSED)
    ]


def shares(cpu: Mapping[str, float]) -> str:
    """Say which processes had how many cores, the busiest first."""
    busy = sorted(((cores, name) for name, cores in cpu.items() if cores >= _TOLD), reverse=True)
    return ", ".join(f"{name} {cores:.2f}" for cores, name in busy) or "all idle"


def per_core(step: Step, server: str) -> float:
    """Return the calls a second for each core that the process had; infinite if its time was too short to see."""
    cores = step.cpu.get(server, 0.0)
    return step.per_s / cores if cores else float("inf")
