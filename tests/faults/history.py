"""Whether a history of reads and writes could have happened one after another.

After the checker of Wing and Gong ("Testing and Verifying Concurrent Objects", 1993) with Lowe's memory of states that
were met before, for one register a product. A write whose answer was lost may have happened, at any time after it was
sent, or not at all.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

Value = int | None  # None: there is no such product


@dataclass(frozen=True)
class Operation:
    """One call on one product. A delete is a write of None."""

    write: bool
    value: Value  # that was written, or seen
    start: float
    end: float = math.inf  # infinite: no answer came


def is_linearizable(operations: Sequence[Operation], initial: Value) -> bool:
    """Say whether some order explains all answers.

    In it each call takes effect at one moment between its start and its end, and each read sees the write before it.
    Reads without an answer say nothing and must not be given.
    """
    everything = sum(1 << index for index, operation in enumerate(operations) if operation.end < math.inf)
    stack: list[tuple[int, Value]] = [(0, initial)]  # which have taken effect, and what they left
    met = set(stack)
    while stack:
        done, state = stack.pop()
        if done & everything == everything:
            return True
        waiting = [index for index in range(len(operations)) if not done >> index & 1]
        # Nothing can take effect that was sent after another one, still waiting, had its answer.
        horizon = min(operations[index].end for index in waiting)
        for index in waiting:
            operation = operations[index]
            if operation.start > horizon or (not operation.write and operation.value != state):
                continue
            following = (done | 1 << index, operation.value if operation.write else state)
            if following not in met:
                met.add(following)
                stack.append(following)
    return False
