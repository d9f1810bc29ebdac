"""opentelemetry-instrumentor-dramatiq: a span for each job, in the trace of its sender."""

import os

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry_instrumentor_dramatiq import DramatiqInstrumentor


class FileExporter(SpanExporter):
    def export(self, spans):
        with open(os.environ["GUEST_NOTES"], "a") as file:
            file.writelines(f"{span.kind.name} {span.context.trace_id}\n" for span in spans)
        return SpanExportResult.SUCCESS


provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(FileExporter()))
trace.set_tracer_provider(provider)
broker = RedisBroker(url="redis://127.0.0.1:1/0")  # the broker's line
dramatiq.set_broker(broker)
DramatiqInstrumentor().instrument()


@dramatiq.actor
def otel_traced():
    return "traced"
