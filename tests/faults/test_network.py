"""Each way between two services is spoiled in each way that networks are.

What must hold: the call ends by its deadline; what it returns is the list of an undisturbed call or an error that says
to come again; when the fault is over the suite works as before, with nobody's help.
"""

import asyncio
from pathlib import Path

import pytest

from faults.annotating import Named, annotate, annotate_until_well
from faults.harness import HOPS, FaultySuite, Finding
from faults.toxics import Bandwidth, BlackHole, Down, Latency, ResetAfter, Slicer
from support.combinations import pairs

# The whole list must come: the network is slow, and nothing else.
SLOW = {
    "200 ms later, give or take 100": Latency(0.2, jitter_s=0.1),
    "1 MB a second": Bandwidth(1_000_000),
    "slices of 1,000 bytes": Slicer(1000),
}
# A list or an error that tells to come again: what had to come did not.
BROKEN = {
    "no connection": Down(),
    "reset after 20,000 bytes": ResetAfter(20_000),
    "black hole": BlackHole(),
}
DEADLINE_S = 4


@pytest.fixture(scope="module")
def undisturbed(faulty: FaultySuite, samples: Path) -> Named:
    ending = asyncio.run(annotate(faulty.endpoint("orchestrator"), samples / "film.mp4", timeout_s=60))
    assert ending.found
    return ending.found


@pytest.mark.parametrize(("toxic", "hop"), pairs(SLOW, HOPS))
async def test_a_slow_way_costs_time_and_nothing_else(
    faulty: FaultySuite, samples: Path, undisturbed: Named, fault: Finding, hop: str, toxic: str
):
    with faulty.spoiled(hop, SLOW[toxic]):
        ending = await annotate(faulty.address, samples / "film.mp4", timeout_s=60)
    assert ending.found == undisturbed, ending.error
    fault.fault, fault.caller_sees = f"way to the {hop}: {toxic}", ending.seen


@pytest.mark.parametrize(("toxic", "hop"), pairs(BROKEN, HOPS[::-1]))
async def test_a_broken_way_ends_by_the_deadline_and_heals(
    faulty: FaultySuite, samples: Path, undisturbed: Named, fault: Finding, hop: str, toxic: str
):
    with faulty.spoiled(hop, BROKEN[toxic]):
        ending = await annotate(faulty.address, samples / "film.mp4", timeout_s=DEADLINE_S)
    assert ending.took_s < DEADLINE_S + 5
    if ending.error is None:
        assert ending.found == undisturbed or ending.summary.frames_failed or ending.summary.objects_unmatched
    else:
        assert ending.refused_well, ending.error
    fault.fault, fault.caller_sees = f"way to the {hop}: {toxic}", ending.seen
    again = await annotate_until_well(faulty.address, samples / "film.mp4")
    fault.recovery_s = again.took_s
    assert again.found == undisturbed
