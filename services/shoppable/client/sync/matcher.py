# Derived from matcher.py of the async client by `make gen`; never edited.
"""Client of the product matcher."""

import grpc

from shoppable.client.errors import readable, translated
from shoppable.v1 import product_matcher_pb2, product_matcher_pb2_grpc


class MatcherClient:
    """Calls a ProductMatcherService."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._stub = product_matcher_pb2_grpc.ProductMatcherServiceStub(channel)

    def match(
        self, request: product_matcher_pb2.MatchProductsRequest, *, timeout_s: float | None = None
    ) -> product_matcher_pb2.MatchProductsResponse:
        """Find the products that each of a batch of things may be."""
        with translated():
            return readable(self._stub.MatchProducts(request, timeout=timeout_s))

    def search(
        self, request: product_matcher_pb2.SearchProductsRequest, *, timeout_s: float | None = None
    ) -> product_matcher_pb2.SearchProductsResponse:
        """Look for products by words, by a picture, by another product, or by words and one of these."""
        with translated():
            return readable(self._stub.SearchProducts(request, timeout=timeout_s))
