"""Which addresses are connected to, whatever names are said to mean. No server is needed: connecting is recorded."""

import ipaddress
from collections.abc import Sequence

import httpcore
import pytest

from shoppable.decoder.adapters.guarded_network import AddressRules, GuardedNetwork
from shoppable.runtime.errors import PermissionDeniedError

PUBLIC = ("93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946")
INNER = (
    *("127.0.0.1", "127.255.255.254", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1"),
    *("169.254.169.254", "192.0.0.1", "192.0.2.1", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"),
    *(
        "::",
        "::1",
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "fc00::1",
        "fd00:ec2::254",
        "ff02::1",
        "2001:db8::1",
        "100::1",
    ),
    *("::ffff:127.0.0.1", "::ffff:93.184.216.34", "::7f00:1", "64:ff9b::7f00:1", "64:ff9b:1::7f00:1"),
    *("100::1", "2002:7f00:1::", "2002:5db8:d822::", "2001:0:5db8:d822::1", "nonsense", ""),
)


class Recorder(httpcore.AsyncMockBackend):
    """Connects to nothing, and remembers to what."""

    def __init__(self, unreachable: Sequence[str] = ()) -> None:
        super().__init__([])
        self.unreachable = unreachable
        self.connected: list[str] = []

    async def connect_tcp(self, host, *arguments, **options):
        self.connected.append(host)
        if host in self.unreachable:
            raise httpcore.ConnectError("unreachable")
        return await super().connect_tcp(host, *arguments, **options)


def network(answers: list[Sequence[str]], *networks: str, unreachable: Sequence[str] = ()):
    """Return a guarded network whose resolver gives these answers in turn, and what it connects to."""

    async def resolver(host: str, port: int) -> Sequence[str]:
        assert host == "films.example"
        return answers.pop(0)

    guarded = GuardedNetwork(AddressRules([ipaddress.ip_network(each) for each in networks]), resolver)
    guarded._network = recorder = Recorder(unreachable)
    return guarded, recorder


@pytest.mark.parametrize("address", PUBLIC)
async def test_a_public_address_is_connected_to(address):
    guarded, recorder = network([[address]])
    await guarded.connect_tcp("films.example", 443)
    assert recorder.connected == [address]


@pytest.mark.parametrize("address", INNER)
async def test_no_other_address_is_connected_to_not_even_beside_a_public_one(address):
    guarded, recorder = network([[address], [PUBLIC[0], address], [address, PUBLIC[1]]])
    for _ in range(3):
        with pytest.raises(PermissionDeniedError) as caught:
            await guarded.connect_tcp("films.example", 443)
        assert caught.value.reason == "ADDRESS_NOT_ALLOWED"
        assert not address or address not in caught.value.message
    assert recorder.connected == []


async def test_a_name_that_means_something_else_next_time_leads_nowhere():
    """DNS rebinding: each connection resolves once and goes to what was checked, never to what the name means later."""
    guarded, recorder = network([[PUBLIC[0]], ["127.0.0.1"]])
    await guarded.connect_tcp("films.example", 443)
    with pytest.raises(PermissionDeniedError):
        await guarded.connect_tcp("films.example", 443)
    assert recorder.connected == [PUBLIC[0]]


async def test_the_next_address_is_tried_if_one_cannot_be_reached():
    guarded, recorder = network([PUBLIC, PUBLIC[:1], []], unreachable=PUBLIC[:1])
    await guarded.connect_tcp("films.example", 443)
    assert recorder.connected == list(PUBLIC)
    for _ in range(2):
        with pytest.raises(httpcore.ConnectError):
            await guarded.connect_tcp("films.example", 443)


@pytest.mark.parametrize(
    ("networks", "address", "allowed"),
    [
        (("10.1.0.0/16",), "10.1.2.3", True),
        (("10.1.0.0/16",), "10.2.2.3", False),
        (("10.1.0.0/16",), "::ffff:10.1.2.3", False),
        (("fd00::/8",), "fd00::1", True),
        (("fd00::/8", "127.0.0.1/32"), "127.0.0.1", True),
        (("64:ff9b::/96",), "64:ff9b::5db8:d822", True),
    ],
)
def test_the_operator_may_allow_networks(networks, address, allowed):
    rules = AddressRules([ipaddress.ip_network(network) for network in networks])
    assert rules.allow(address) is allowed


async def test_no_socket_file_is_connected_to():
    guarded, _ = network([])
    with pytest.raises(httpcore.ConnectError):
        await guarded.connect_unix_socket("/run/docker.sock")
