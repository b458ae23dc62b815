"""A process that nobody has configured yet: OpenTelemetry's globals as at its beginning."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import trio
from opentelemetry import _logs as logs_api
from opentelemetry import metrics, trace

from spans import play
from spry_py import Child, open_system
from traced import crash, lives, shop

VARIABLES = ("OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES", "OTEL_SDK_DISABLED")


class Fresh:
    """What has been set; nothing of it outlives the test."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        for name in VARIABLES:
            patch.delenv(name, raising=False)
        patch.setattr(logging.getLogger("spry_py"), "handlers", [])
        self.set: dict[str, Any] = {}
        unset: dict[Any, tuple[str, str, Any]] = {
            trace: ("get_tracer_provider", "set_tracer_provider", trace.ProxyTracerProvider()),
            metrics: ("get_meter_provider", "set_meter_provider", _ProxyMeterProvider()),
            logs_api: ("get_logger_provider", "set_logger_provider", ProxyLoggerProvider()),
        }
        for api, (get, put, proxy) in unset.items():
            patch.setattr(api, get, lambda get=get, proxy=proxy: self.set.get(get, proxy))
            patch.setattr(api, put, lambda provider, get=get: self.set.update({get: provider}))
        patch.setattr(logs_api, "get_logger", self._logger)

    def _logger(self, name: str, version: str) -> Any:
        return self.set["get_logger_provider"].get_logger(name, version)

    @property
    def names(self) -> list[str]:
        return sorted(name.split("_")[1] for name in self.set)


class _ProxyMeterProvider(metrics.NoOpMeterProvider):
    """Named as the one that the API begins with."""


class ProxyLoggerProvider(logs_api.NoOpLoggerProvider):
    """Named as the one that the API begins with."""


def crashes_once() -> None:
    async def story() -> None:
        async with open_system(shop(Child("a", lives(crash())))):
            await trio.sleep(5)

    play(story)
