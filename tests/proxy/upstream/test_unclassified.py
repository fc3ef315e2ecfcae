"""Errors of unknown shapes are counted, and told once each."""

from __future__ import annotations

import pytest

from proxy.upstream.error_body import ApiError
from proxy.upstream.unclassified import Unclassified

KNOWN = [
    (400, ApiError("invalid_request_error", "max_tokens: too large", "", True)),
    (400, ApiError("invalid_request_error", "Your credit balance is too low.", "", True)),
    (400, ApiError("invalid_request_error", "messages.0: my account and my plan", "", True)),
    (403, ApiError("permission_error", "no", "", True)),
    (404, ApiError("not_found_error", "model: x", "", True)),
    (429, ApiError("rate_limit_error", "your organization's quota", "", True)),
    (429, ApiError()),
    (413, ApiError()),
    (422, ApiError()),
]
UNKNOWN = [
    (400, ApiError("invalid_request_error", "Your workspace was put to sleep.", "", True)),
    (400, ApiError("new_error", "what is this?", "", True)),
    (403, ApiError("", "", "", True)),
    (404, ApiError("not_found_error", "This account is gone.", "", True)),
    (418, ApiError()),
    (451, ApiError()),
]


@pytest.mark.parametrize(("status", "error"), KNOWN)
def test_a_known_shape_is_not_counted(status: int, error: ApiError, caplog: pytest.LogCaptureFixture) -> None:
    unclassified = Unclassified()
    unclassified.note(status, error)
    assert (unclassified.count, caplog.records) == (0, [])


@pytest.mark.parametrize(("status", "error"), UNKNOWN)
def test_an_unknown_shape_is_counted_each_time_and_told_once(
    status: int, error: ApiError, caplog: pytest.LogCaptureFixture
) -> None:
    unclassified = Unclassified()
    for _ in range(3):
        unclassified.note(status, error)
    assert unclassified.count == 3
    assert [record.getMessage()[:40] for record in caplog.records] == [
        "unclassified error of the upstream evide"
    ]


def test_numbers_make_no_other_shape_and_no_secret_is_told(caplog: pytest.LogCaptureFixture) -> None:
    unclassified = Unclassified()
    for number in range(200):
        words = f"Your account {number} has sk-ant-api03-{'x' * 40}"
        unclassified.note(400, ApiError("invalid_request_error", words, "", True))
    assert (unclassified.count, len(caplog.records)) == (200, 1)
    assert "xxxx" not in caplog.text


def test_shapes_without_end_are_not_told_without_end(caplog: pytest.LogCaptureFixture) -> None:
    unclassified = Unclassified()
    for number in range(1000):
        unclassified.note(400, ApiError(f"error_{number}", "", f"code\n{number}", True))
    assert unclassified.count == 1000
    assert len(caplog.records) == 100
    assert all("\n" not in record.getMessage() for record in caplog.records)
