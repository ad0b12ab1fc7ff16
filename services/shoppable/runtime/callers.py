"""Who calls: the name by which a caller's calls are counted together.

What a stranger says of itself is not believed: a name in the metadata counts only where the operator says so, behind
something that sets it. The orchestrator sends its own caller's name along to the services that it asks.
"""

import re
from collections.abc import Callable

from shoppable.runtime.call import Call

CALLER_KEY = "x-shoppable-caller"
_NAME = re.compile(r"[A-Za-z0-9_.:@/\[\]%-]{1,128}")


def identify_by(metadata_key: str | None) -> Callable[[Call], str]:
    """Return what tells a call's caller: the value of a trusted metadata key, else the address it comes from."""

    def identify(call: Call) -> str:
        if metadata_key is not None:
            for key, value in call.context.invocation_metadata() or ():
                if key == metadata_key and isinstance(value, str) and _NAME.fullmatch(value):
                    return value
        return host_of(call.context.peer())

    return identify


def host_of(peer: str) -> str:
    """Return the address of a peer without its port: "ipv4:10.0.0.7:51234" comes from 10.0.0.7."""
    kind, _, address = peer.partition(":")
    return address.rpartition(":")[0] if kind in {"ipv4", "ipv6"} else peer
