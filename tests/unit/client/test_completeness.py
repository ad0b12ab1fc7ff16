"""The hand-written client has a way to each RPC of the contract."""

import inspect

import pytest

from shoppable import client
from shoppable.v1 import (
    frame_decoder_pb2,
    object_detector_pb2,
    orchestrator_pb2,
    product_catalog_pb2,
    product_matcher_pb2,
    server_info_pb2,
)

CLIENTS = {
    frame_decoder_pb2: client.DecoderClient,
    object_detector_pb2: client.DetectorClient,
    orchestrator_pb2: client.OrchestratorClient,
    product_catalog_pb2: client.CatalogClient,
    product_matcher_pb2: client.MatcherClient,
    server_info_pb2: client.ServerInfoClient,
}
METHODS = [
    (kind, method.name)
    for module, kind in CLIENTS.items()
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]


@pytest.mark.parametrize(("kind", "method"), METHODS, ids=[f"{kind.__name__} {name}" for kind, name in METHODS])
def test_every_rpc_has_a_method(kind: type, method: str):
    assert f"self._stub.{method}" in inspect.getsource(kind)
