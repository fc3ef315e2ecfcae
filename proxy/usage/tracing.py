"""OpenTelemetry traces: a sink that makes a span of each request that has ended, and one of each of its tries.

Imported only if `tracing.endpoint` is set: what it needs is an extra. Names are those of the semantic conventions for
HTTP and for generative AI; what these do not know begins with `claude_proxy.`.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Final, TypeAlias
from urllib.parse import urlsplit

import requests
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
from opentelemetry.trace import Span, SpanKind, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from proxy import __version__
from proxy.clock import Clock
from proxy.upstream.verdict import Action
from proxy.usage.request import Attempt, RequestRecord

MOST_QUEUED: Final = 4096
"""Spans that wait for the collector, 3 kB each; the oldest of more are given up, which the log tells."""

EXPORT_S: Final = 5.0
"""The longest wait for an answer of the collector, with what is tried again."""

METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""Any other one is `_OTHER`, as the conventions have it: clients may write anything."""

NAMED: Final = frozenset(
    {"/v1/messages", "/v1/messages/count_tokens", "/v1/models", "/v1/complete", "/v1/chat/completions"}
)
"""Paths that may stand in a span's name: names are few."""

HANDED_ON: Final = Action.HAND_ON.value

Attributes: TypeAlias = dict[str, str | int | float | None]

log = logging.getLogger(__name__)


class Tracing:
    """Sends spans to the collector at `endpoint`, from a thread of its own.

    `sample` is the part of the traces that begin here; of others, their beginning has decided.
    """

    flush_s = 3.0
    """The longest wait for the collector at the end."""

    def __init__(self, endpoint: str, sample: float, *, upstream: str, clock: Clock) -> None:
        base = endpoint.rstrip("/").removesuffix("/v1/traces")
        session = requests.Session()
        session.trust_env = False  # only `claude.proxy` leads out of here, and only to the upstream
        self._exporter = OTLPSpanExporter(f"{base}/v1/traces", timeout=EXPORT_S, session=session)
        ours = Resource({"service.name": "claude-proxy", "service.version": __version__})
        self._provider = TracerProvider(
            ParentBasedTraceIdRatio(sample),
            ours.merge(OTELResourceDetector().detect()),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter, MOST_QUEUED))
        self._tracer = self._provider.get_tracer("claude-proxy", __version__)
        self._parents = TraceContextTextMapPropagator()
        at = urlsplit(upstream)
        self._upstream: Attributes = {
            "server.address": at.hostname,
            "server.port": at.port or (443 if at.scheme == "https" else 80),
        }
        self._clock = clock

    def trace(self, record: RequestRecord, clean: Callable[[str], str]) -> None:
        """Make the spans of an ended request: a sink, called after `price`. `clean` takes secrets out of a text.

        Requests without a valid client key have none: a flood of them would push out all others.
        """
        ended_at = record.ended_at
        if record.key is None or ended_at is None:
            return
        offset, name = self._clock.now() - self._clock.monotonic(), _name(record)
        parent = Context() if record.parent is None else self._parents.extract(record.parent, Context())
        span = self._tracer.start_span(
            name, parent, SpanKind.SERVER, start_time=_ns(offset + record.began_at)
        )
        if span.is_recording():
            within = set_span_in_context(span, Context())
            for number, attempt in enumerate(record.attempts):
                tried = self._tracer.start_span(
                    name, within, SpanKind.CLIENT, start_time=_ns(offset + attempt.began_at)
                )
                served = attempt is record.attempts[-1] and attempt.verdict == HANDED_ON
                end = ended_at if served or attempt.ended_at is None else attempt.ended_at
                _put(tried, self._of_try(record, attempt, number, clean))
                if served and record.is_inference:
                    _put(tried, _of_inference(record, clean))
                if attempt.failure is not None or not attempt.verdict:
                    _fail(tried, str(attempt.status or attempt.verdict or record.cut_by or record.error))
                elif served and record.failed is not None:
                    _fail(tried, record.failed)
                tried.end(_ns(offset + end))
            _put(span, _of_request(record, clean))
            if record.status >= 500 or record.cut_by == "upstream" or record.failed is not None:
                _fail(span, record.error or record.cut_by or str(record.status))
        span.end(_ns(offset + ended_at))

    def _of_try(
        self, record: RequestRecord, attempt: Attempt, number: int, clean: Callable[[str], str]
    ) -> Attributes:
        return self._upstream | {
            "http.request.method": _method(record),
            "http.request.resend_count": number or None,
            "http.response.status_code": attempt.status or None,
            "claude_proxy.account_id": attempt.account_id,
            "claude_proxy.verdict": attempt.verdict or None,
            "claude_proxy.upstream_request_id": clean(attempt.request_id) or None,
        }

    async def close(self) -> None:
        """Send what waits; give it up after `flush_s`."""
        # A daemon, and not a thread of the loop's pool: the process ends without it.
        last = threading.Thread(target=self._provider.shutdown, name="last spans", daemon=True)
        last.start()
        await asyncio.to_thread(last.join, self.flush_s)
        if last.is_alive():
            log.warning("the collector of traces does not take the last spans: they are lost")
            self._exporter.shutdown()  # type: ignore[no-untyped-call]


def _of_request(record: RequestRecord, clean: Callable[[str], str]) -> Attributes:
    assert record.key is not None
    return {
        "http.request.method": _method(record),
        "http.response.status_code": record.status or None,
        "url.path": clean(record.path),
        "url.scheme": "http",
        "claude_proxy.request_id": record.id,
        "claude_proxy.key_id": record.key.id,
        "claude_proxy.session_id": record.session_id,
        "claude_proxy.account_id": record.account_id,
        "claude_proxy.outcome": record.outcome,
        "claude_proxy.cut_by": record.cut_by,
        "claude_proxy.time_to_first_byte_s": record.ttfb_s,
        "claude_proxy.cost_usd": record.cost_usd,
    }


def _of_inference(record: RequestRecord, clean: Callable[[str], str]) -> Attributes:
    """As the conventions for generative AI name it; input tokens are all of them, those of the cache too."""
    billed = [charge.usage for charge in record.charges]
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "anthropic",
        "gen_ai.request.model": clean(record.model or "") or None,
        "gen_ai.response.model": clean(billed[-1].model) or None if billed else None,
        "gen_ai.usage.input_tokens": sum(each.prompt_tokens for each in billed),
        "gen_ai.usage.output_tokens": sum(each.output_tokens for each in billed),
        "gen_ai.usage.cache_read.input_tokens": sum(each.cache_read_tokens for each in billed),
        "gen_ai.usage.cache_creation.input_tokens": sum(each.cache_creation_tokens for each in billed),
    }


def _method(record: RequestRecord) -> str:
    return record.method if record.method in METHODS else "_OTHER"


def _name(record: RequestRecord) -> str:
    """The method with what is asked, of which there are few."""
    method, target = record.method if record.method in METHODS else "HTTP", record.target
    if target is not None and target.path in NAMED:
        return f"{method} {target.path}"
    return f"{method} {target.collection}" if target is not None and target.is_known else method


def _put(span: Span, attributes: Attributes) -> None:
    span.set_attributes({name: value for name, value in attributes.items() if value is not None})


def _fail(span: Span, why: str) -> None:
    span.set_attribute("error.type", why)
    span.set_status(StatusCode.ERROR)


def _ns(epoch_s: float) -> int:
    return int(epoch_s * 1e9)
