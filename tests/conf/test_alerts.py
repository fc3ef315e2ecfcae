"""The alerts in conf/alerts.yaml: each fires when it should and not before, by promtool, and names real metrics."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.scrape import PREFIX, names_in, scraped, told_names
from tests.service import serve

ALERTS = Path(__file__).parents[2] / "conf" / "alerts.yaml"
RULES: dict[str, dict[str, Any]] = {
    rule["alert"]: rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]
}
PROXY = {"job": "claude-proxy", "instance": "one"}

Series = dict[str, str]
"""Values in promtool's notation, one every 30 s, by metric; of ours without the prefix."""


@dataclass(frozen=True)
class Case:
    """Series of which an alert fires after so many minutes, with these labels; and some of which it never does."""

    alert: str
    fires: Series
    minutes: int
    calm: tuple[Series, ...]
    labels: dict[str, str]
    value: str = ""


REQUESTS = 'requests_total{account="a",family="opus",outcome="%s"}'
LAG = 'event_loop_lag_seconds_bucket{le="%s"}'
CASES = [
    Case("ClaudeProxyDown", {"up": "1 0x20"}, 3, ({"up": "1x40"}, {"up": "1 0 0 1x40"}), PROXY),
    Case(
        "ClaudeProxyPoolEmpty",
        {'accounts{state="active"}': "1 0x20", 'accounts{state="rate_limited"}': "0 1x20"},
        2,
        (
            {'accounts{state="active"}': "1x40", 'accounts{state="invalid"}': "1x40"},
            {'accounts{state="active"}': "1 0 1x40"},
        ),
        PROXY,
    ),
    Case(
        "ClaudeProxyAccountInvalid",
        {'account_state{account="a",state="invalid"}': "0 1x20"},
        2,
        (
            {
                'account_state{account="a",state="invalid"}': "0x40",
                'account_state{account="a",state="rate_limited"}': "1x40",
            },
        ),
        PROXY | {"account": "a", "state": "invalid"},
    ),
    Case(
        "ClaudeProxyQuotaHigh",
        {'account_quota_left_ratio{account="a",window="7d_opus"}': "0.05x40"},
        6,
        (
            {'account_quota_left_ratio{account="a",window="5h"}': "0.11x40"},
            {'account_quota_left_ratio{account="a",window="input_tokens"}': "0x40"},
            {'account_quota_left_ratio{account="a",window="5h"}': "0.05x5 1x40"},
        ),
        PROXY | {"account": "a", "window": "7d_opus"},
        "5%",
    ),
    Case(
        "ClaudeProxyErrors",
        {REQUESTS % "ok": "0+8x40", REQUESTS % "upstream_error": "0+1x40", REQUESTS % "limited": "0+1x40"},
        12,
        (
            {REQUESTS % "ok": "0+99x40", REQUESTS % "upstream_error": "0+1x40"},
            {REQUESTS % "ok": "0+1x40", REQUESTS % "client_error": "0+9x40", REQUESTS % "aborted": "0+9x40"},
            # Few requests, of which one failed.
            {REQUESTS % "ok": "0+1x40", REQUESTS % "upstream_error": "0x15 1x40"},
            {REQUESTS % "ok": "0+8x40", REQUESTS % "limited": "0+2x4 8x40"},
        ),
        PROXY,
        "20%",
    ),
    Case(
        "ClaudeProxyRefreshFailing",
        {'account_refresh_failing{account="a"}': "1x60"},
        16,
        (
            {'account_refresh_failing{account="a"}': "0x60"},
            {'account_refresh_failing{account="a"}': "1x20 0x40"},
        ),
        PROXY | {"account": "a"},
    ),
    Case(
        "ClaudeProxyUnsaved",
        {'unsaved_changes{of="accounts"}': "0x40", 'unsaved_changes{of="usage"}': "1x40"},
        3,
        ({'unsaved_changes{of="accounts"}': "0x40"}, {'unsaved_changes{of="accounts"}': "0 3 3 0x40"}),
        PROXY,
    ),
    Case(
        "ClaudeProxyLoopLag",
        {LAG % "0.1": "0+90x60", LAG % "0.5": "0+100x60", LAG % "+Inf": "0+100x60"},
        16,
        (
            {LAG % "0.1": "0+100x60", LAG % "0.5": "0+100x60", LAG % "+Inf": "0+100x60"},
            {LAG % "0.1": "0+9999x60", LAG % "0.5": "0+10000x60", LAG % "+Inf": "0+10000x60"},
        ),
        PROXY,
        "460ms",
    ),
]


def of_us(series: Series) -> list[dict[str, str]]:
    """The series as promtool takes them, with the labels that Prometheus adds."""
    added = ",".join(f'{name}="{value}"' for name, value in PROXY.items())
    found = []
    for name, values in series.items():
        metric, _, labels = name.rstrip("}").partition("{")
        full = metric if metric == "up" else PREFIX + metric
        found.append({"series": f"{full}{{{','.join(filter(None, (labels, added)))}}}", "values": values})
    return found


def expected(case: Case) -> dict[str, Any]:
    """The alert as its receivers get it."""
    rule = RULES[case.alert]

    def filled(text: str) -> str:
        text = re.sub(r"{{ \$labels\.(\w+) }}", lambda found: case.labels[found[1]], text)
        return re.sub(r"{{ \$value .*?}}", case.value, text)

    annotations = {name: filled(text) for name, text in rule["annotations"].items()}
    return {"exp_labels": case.labels | rule["labels"], "exp_annotations": annotations}


def looked_at(series: Series, case: Case, minutes: range, alerts: list[dict[str, Any]]) -> dict[str, Any]:
    looks = [{"eval_time": f"{minute}m", "alertname": case.alert, "exp_alerts": alerts} for minute in minutes]
    return {"interval": "30s", "input_series": of_us(series), "alert_rule_test": looks}


def promtool(*arguments: str | Path, given: str = "") -> str:
    """What promtool says; it has to be satisfied."""
    done = subprocess.run(["promtool", *map(str, arguments)], input=given, capture_output=True, text=True)  # noqa: S603, S607
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_alert_has_a_case() -> None:
    assert [case.alert for case in CASES] == list(RULES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.alert)
def test_it_fires_when_it_should_and_never_else(tmp_path: Path, case: Case) -> None:
    at = range(case.minutes, case.minutes + 1)
    tests = [looked_at(case.fires, case, at, [expected(case)])]
    tests += [looked_at(series, case, range(0, 21), []) for series in case.calm]
    tests.append(looked_at(case.fires, case, range(0, 1), []))
    file = tmp_path / "tests.yaml"
    file.write_text(
        yaml.safe_dump({"rule_files": [str(ALERTS)], "evaluation_interval": "30s", "tests": tests})
    )
    promtool("test", "rules", file)


def test_prometheus_takes_the_rules() -> None:
    assert f"SUCCESS: {len(RULES)} rules found" in promtool("check", "rules", ALERTS)


async def test_every_metric_that_an_alert_names_is_told(tmp_path: Path) -> None:
    named = names_in(rule["expr"] for rule in RULES.values())
    assert len(named) >= 7
    assert named - await told_names(tmp_path) == set()


async def test_prometheus_finds_nothing_amiss_in_what_it_is_told(tmp_path: Path) -> None:
    async with serve(tmp_path) as service:
        await service.message()
        assert promtool("check", "metrics", given=(await scraped(service)).text) == ""
