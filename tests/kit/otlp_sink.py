"""Collectors to export to: one that keeps what it is sent, and all the ways in which one can fail.

Every one listens on a port of its own on 127.0.0.1, over HTTP or gRPC, until its block is left.
"""

from __future__ import annotations

import gzip
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, Literal, NamedTuple, TypeAlias

import grpc  # type: ignore[import-untyped]
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as logs
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as trace

from otlp_records import Point, Record, Span, points_of, records_of, spans_of

Protocol: TypeAlias = Literal["http", "grpc"]
# How a collector behaves. `refuse`: nobody listens. `silent`: connects, and never says a word.
# `hang`: takes requests and never answers. `503`: is unavailable. `slow`: answers after a while.
Mode: TypeAlias = Literal["accept", "refuse", "silent", "hang", "503", "slow"]

# Longer than a program waits at its end.
SLOW_SECONDS = 4.0
# A test that waits longer for something to arrive has failed.
PATIENCE = 20.0


class Signal(NamedTuple):
    path: str
    service: str
    request: Any
    response: Any


SIGNALS = (
    Signal(
        "/v1/traces",
        "opentelemetry.proto.collector.trace.v1.TraceService",
        trace.ExportTraceServiceRequest,
        trace.ExportTraceServiceResponse,
    ),
    Signal(
        "/v1/metrics",
        "opentelemetry.proto.collector.metrics.v1.MetricsService",
        metrics.ExportMetricsServiceRequest,
        metrics.ExportMetricsServiceResponse,
    ),
    Signal(
        "/v1/logs",
        "opentelemetry.proto.collector.logs.v1.LogsService",
        logs.ExportLogsServiceRequest,
        logs.ExportLogsServiceResponse,
    ),
)


class Sink:
    """What arrived, in the order in which it did; complete once the sender has ended."""

    def __init__(self, mode: Mode, slow_seconds: float) -> None:
        self.mode = mode
        self._seconds = slow_seconds if mode == "slow" else None
        self.endpoint = ""
        # of the requests: the path of the signal, and the headers or metadata in lower case
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.spans: list[Span] = []
        self.points: list[Point] = []
        self.records: list[Record] = []
        self._arrived = threading.Condition()
        self._closing = threading.Event()

    @property
    def kept(self) -> list[Span | Point | Record]:
        return [*self.spans, *self.points, *self.records]

    def wait_for(self, condition: Callable[[], object]) -> None:
        with self._arrived:
            arrived = self._arrived.wait_for(condition, PATIENCE)
        assert arrived, f"after {len(self.requests)} requests it has not arrived"

    def take(self, path: str, headers: dict[str, str], request: Any) -> bool:
        """Behaves as the mode says; returns whether the request has been taken."""
        with self._arrived:
            self.requests.append((path, headers))
            self._arrived.notify_all()
        if self.mode in ("hang", "slow"):
            self._closing.wait(self._seconds)
        if self.mode in ("accept", "slow"):
            self._keep(path, request)
        return self.mode != "503"

    def _keep(self, path: str, request: Any) -> None:
        with self._arrived:
            if path == "/v1/traces":
                self.spans += spans_of(request)
            elif path == "/v1/metrics":
                self.points += points_of(request)
            else:
                self.records += records_of(request)
            self._arrived.notify_all()

    def close(self) -> None:
        """Let go of everybody who waits for an answer."""
        self._closing.set()


@contextmanager
def sink(
    protocol: Protocol, mode: Mode = "accept", slow_seconds: float = SLOW_SECONDS
) -> Iterator[Sink]:
    opened = Sink(mode, slow_seconds)
    if mode in ("refuse", "silent"):
        serving = _mute(opened)
    else:
        serving = _http(opened) if protocol == "http" else _grpc(opened)
    with serving as port:
        opened.endpoint = f"http://127.0.0.1:{port}"
        try:
            yield opened
        finally:
            opened.close()


@contextmanager
def _mute(opened: Sink) -> Iterator[int]:
    """A port that is ours, so that nobody else can listen on it, and that we do not serve."""
    with closing(socket.socket()) as held:
        held.bind(("127.0.0.1", 0))
        if opened.mode == "silent":
            held.listen()
        yield held.getsockname()[1]


@contextmanager
def _http(opened: Sink) -> Iterator[int]:
    class Handler(_Handler):
        sink = opened

    server = _Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="otlp sink")
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join(PATIENCE)


class _Server(ThreadingHTTPServer):
    daemon_threads = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A program that has left does not wait for its answer; anything else is a bug here."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    sink: ClassVar[Sink]

    def do_POST(self) -> None:
        signal = next(signal for signal in SIGNALS if signal.path == self.path)
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers["content-encoding"] == "gzip":
            body = gzip.decompress(body)
        headers = {name.lower(): value for name, value in self.headers.items()}
        taken = self.sink.take(self.path, headers, signal.request.FromString(body))
        answer = signal.response().SerializeToString()
        self.send_response(200 if taken else 503)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_request(self, code: object = "-", size: object = "-") -> None:
        """Nothing: what is worth telling is in `requests`."""


@contextmanager
def _grpc(opened: Sink) -> Iterator[int]:
    with ThreadPoolExecutor(8) as pool:
        server = grpc.server(pool, handlers=[_grpc_handler(opened, signal) for signal in SIGNALS])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield port
        finally:
            server.stop(grace=None).wait(PATIENCE)


def _grpc_handler(opened: Sink, signal: Signal) -> Any:
    def export(request: Any, context: Any) -> Any:
        metadata = {name: str(value) for name, value in context.invocation_metadata()}
        if not opened.take(signal.path, metadata, request):
            context.abort(grpc.StatusCode.UNAVAILABLE, "the sink is unavailable")
        return signal.response()

    method = grpc.unary_unary_rpc_method_handler(
        export,
        request_deserializer=signal.request.FromString,
        response_serializer=signal.response.SerializeToString,
    )
    return grpc.method_handlers_generic_handler(signal.service, {"Export": method})
