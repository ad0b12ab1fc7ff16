"""Under which name a caller's calls are counted together, for limits and turns.

What a stranger says of itself is not believed: a name in the metadata counts only where the operator says so, behind
something that sets it. The orchestrator sends the name of its own caller along to the services that it asks, which
would else count all calls as the orchestrator's.
"""

import re
from collections.abc import Callable

from shoppable.runtime.call import Call, current_caller

ACCOUNT_KEY = "x-shoppable-caller"
_NAME = re.compile(r"[A-Za-z0-9_.:@/\[\]%-]{1,128}")


def account_by(metadata_key: str | None) -> Callable[[Call], str]:
    """Return what names a call's account: a trusted metadata key, else the caller that is known, else its address."""

    def account(call: Call) -> str:
        if metadata_key is not None:
            for key, value in call.context.invocation_metadata() or ():
                if key == metadata_key and isinstance(value, str) and _NAME.fullmatch(value):
                    return value
        caller = current_caller()
        return caller.name if caller else host_of(call.context.peer())

    return account


def host_of(peer: str) -> str:
    """Return the address of a peer without its port: "ipv4:10.0.0.7:51234" comes from 10.0.0.7."""
    kind, _, address = peer.partition(":")
    return address.rpartition(":")[0] if kind in {"ipv4", "ipv6"} else peer
