"""Metrics in the terms of prometheus_client, each with the project's prefix."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeAlias

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from proxy.histogram import Histogram

PREFIX: Final = "claude_proxy_"

Family: TypeAlias = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily

Row: TypeAlias = tuple[tuple[str, ...], float]
"""The values of the labels, and the value."""


def counter(name: str, text: str, labels: tuple[str, ...], rows: Iterable[Row]) -> CounterMetricFamily:
    """A sum that only grows; to its name the library adds `_total`."""
    family = CounterMetricFamily(PREFIX + name, text, labels=labels)
    for values, value in rows:
        family.add_metric(values, value)
    return family


def gauge(name: str, text: str, labels: tuple[str, ...], rows: Iterable[Row]) -> GaugeMetricFamily:
    """A value of now."""
    family = GaugeMetricFamily(PREFIX + name, text, labels=labels)
    for values, value in rows:
        family.add_metric(values, value)
    return family


def number(name: str, text: str, value: float) -> GaugeMetricFamily:
    """A value of now, without labels."""
    return gauge(name, text, (), [((), value)])


def histogram(
    name: str, text: str, labels: tuple[str, ...], rows: Iterable[tuple[tuple[str, ...], Histogram]]
) -> HistogramMetricFamily:
    """Histograms, each with the values of its labels."""
    family = HistogramMetricFamily(PREFIX + name, text, labels=labels)
    for values, each in rows:
        family.add_metric(values, each.buckets(), each.total)
    return family
