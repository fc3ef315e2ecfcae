"""A histogram counts each value once, in every bucket whose bound is not below it."""

from __future__ import annotations

from proxy.histogram import Histogram


def test_a_value_is_in_each_bucket_from_its_own_on() -> None:
    histogram = Histogram((0.5, 1, 5))
    for value in (0.1, 0.5, 0.6, 1, 7):
        histogram.observe(value)
    assert histogram.buckets() == [("0.5", 2), ("1.0", 4), ("5.0", 4), ("+Inf", 5)]
    assert round(histogram.total, 6) == 9.2


def test_an_empty_one_has_every_bucket() -> None:
    assert Histogram((1,)).buckets() == [("1.0", 0), ("+Inf", 0)]
