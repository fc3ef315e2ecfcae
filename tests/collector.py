"""A collector of traces in the test's own loop: takes OTLP over HTTP, and keeps what it was sent."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.serving import serving


@dataclass
class Collector:
    """`posted` are the bodies, `heads` what came before them. It answers once `answers` is set."""

    port: int = 0
    heads: list[bytes] = field(default_factory=list)
    posted: list[bytes] = field(default_factory=list)
    answers: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def requests(self) -> list[ExportTraceServiceRequest]:
        return [ExportTraceServiceRequest.FromString(body) for body in self.posted]

    @property
    def spans(self) -> list[Span]:
        """All that were sent."""
        return [
            span
            for request in self.requests
            for of_resource in request.resource_spans
            for of_scope in of_resource.scope_spans
            for span in of_scope.spans
        ]

    def of_kind(self, kind: Span.SpanKind) -> list[Span]:
        """Those of one kind, in the order in which they began."""
        return sorted((s for s in self.spans if s.kind == kind), key=lambda span: span.start_time_unix_nano)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].split()[0])
            self.heads.append(head)
            self.posted.append(await reader.readexactly(length))
            await self.answers.wait()
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n"
            )


@contextlib.asynccontextmanager
async def collecting() -> AsyncIterator[Collector]:
    """A collector that answers at once."""
    collector = Collector()
    collector.answers.set()
    async with serving(collector.serve) as collector.port:
        yield collector


def attributes(span: Span) -> dict[str, str | int | float | bool]:
    """The attributes of a span by their names."""
    return {each.key: _plain(each.value) for each in span.attributes}


def _plain(value: AnyValue) -> str | int | float | bool:
    found: str | int | float | bool = getattr(value, str(value.WhichOneof("value")))
    return found
