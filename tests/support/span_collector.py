"""An OpenTelemetry collector for tests: keeps the spans that it is sent."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc


@dataclass(frozen=True)
class Span:
    """What tests ask of a span."""

    app: str  # such as "shoppable-decoder"
    name: str
    trace: bytes
    id: bytes
    parent: bytes


class SpanCollector(trace_service_pb2_grpc.TraceServiceServicer):
    """Listens on `address` until it is stopped."""

    def __init__(self) -> None:
        self._requests: list[trace_service_pb2.ExportTraceServiceRequest] = []
        self._server = grpc.server(ThreadPoolExecutor(4))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, self._server)
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def Export(self, request, context):
        self._requests.append(request)
        return trace_service_pb2.ExportTraceServiceResponse()

    def spans(self) -> Iterator[Span]:
        for request in list(self._requests):
            for resource in request.resource_spans:
                values = {item.key: item.value.string_value for item in resource.resource.attributes}
                for scope in resource.scope_spans:
                    for span in scope.spans:
                        yield Span(values["service.name"], span.name, span.trace_id, span.span_id, span.parent_span_id)

    def stop(self) -> None:
        self._server.stop(None)
