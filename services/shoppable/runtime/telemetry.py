"""Where metrics and traces leave the process."""

import contextlib
from collections.abc import Iterator

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from prometheus_client import start_http_server

from shoppable import __version__
from shoppable.runtime.settings import ServerSettings


@contextlib.contextmanager
def exporting(settings: ServerSettings) -> Iterator[int | None]:
    """Serve /metrics and send traces while inside, as far as the settings ask; yield the port of /metrics."""
    with contextlib.ExitStack() as stack:
        port = None
        if settings.metrics_port is not None:
            server, thread = start_http_server(settings.metrics_port, addr=settings.host)
            stack.callback(thread.join, timeout=5)
            stack.callback(server.server_close)
            stack.callback(server.shutdown)
            port = int(server.server_port)
        if settings.otlp_endpoint:
            resource = Resource.create(
                {"service.name": f"shoppable-{settings.service}", "service.version": __version__}
            )
            provider = TracerProvider(resource=resource)
            provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=settings.otlp_endpoint)))
            trace.set_tracer_provider(provider)
            stack.callback(provider.shutdown)
        yield port
