"""The board in conf/grafana-dashboard.json: Prometheus can read each query, which names real metrics and labels."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.scrape import names_in, told_names

BOARD = json.loads((Path(__file__).parents[2] / "conf" / "grafana-dashboard.json").read_text())
PANELS: list[dict[str, Any]] = BOARD["panels"]
VARIABLES = {"$__rate_interval": "5m", "$__range": "6h", "$instance": ".*"}


def expressions() -> Iterator[str]:
    """The queries of all panels, as Grafana sends them."""
    for panel in PANELS:
        for target in panel.get("targets", ()):
            query = target["expr"]
            for name, value in VARIABLES.items():
                query = query.replace(name, value)
            yield query


def test_prometheus_can_read_every_query(tmp_path: Path) -> None:
    queries = list(expressions())
    rules = [{"record": f"panel:{number}", "expr": query} for number, query in enumerate(queries)]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "board", "rules": rules}]}))
    done = subprocess.run(["promtool", "check", "rules", file], capture_output=True, text=True)  # noqa: S603, S607
    assert done.returncode == 0 and f"SUCCESS: {len(queries)} rules found" in done.stdout, done.stderr
    assert not any("$" in query for query in queries)


async def test_every_metric_that_the_board_names_is_told_and_the_other_way_round(tmp_path: Path) -> None:
    named, told = names_in(expressions()), await told_names(tmp_path)
    assert named - told == set()
    # What has no place on it: sums that another metric has too, or what only joins and alerts ask for.
    unused = {re.sub(r"_(bucket|count|sum)$", "", name) for name in told if name.startswith("claude_proxy_")}
    unused -= {re.sub(r"_(bucket|count|sum)$", "", name) for name in named}
    assert unused == {
        f"claude_proxy_{name}" for name in ("account_info", "draining", "health", "moved_cost_usd_total")
    }


def test_no_panel_lies_over_another_and_each_says_what_it_shows() -> None:
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    for one, other in itertools.combinations((panel["gridPos"] for panel in PANELS), 2):
        apart = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        assert apart or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
    for panel in PANELS:
        assert panel["title"] and panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
        for target in panel.get("targets", ()):
            assert '{instance=~"$instance"' in target["expr"]
            assert target["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
