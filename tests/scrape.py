"""What `/metrics` says, to be asked by name and label."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from proxy.simulator import quota_429
from tests.service import Service, serve

PREFIX = "claude_proxy_"


class Scraped:
    """The samples of one scrape."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.samples = [each for family in text_string_to_metric_families(text) for each in family.samples]

    def rows(self, name: str) -> list[tuple[dict[str, str], float]]:
        """The labels and values of a metric, without the project's prefix."""
        return [(each.labels, each.value) for each in self.samples if each.name == PREFIX + name]

    def by(self, name: str, *labels: str) -> dict[str | tuple[str, ...], float]:
        """The sums by one label, or by several."""
        sums: Counter[str | tuple[str, ...]] = Counter()
        for of, value in self.rows(name):
            key = tuple(of[label] for label in labels)
            sums[key if len(key) > 1 else key[0]] += value  # type: ignore[assignment]
        return dict(sums)

    def value(self, name: str, **labels: str) -> float:
        """The one value with these labels."""
        [value] = [value for of, value in self.rows(name) if of == labels]
        return value


async def scraped(service: Service) -> Scraped:
    """What the metrics say now."""
    answer = await service.admin("GET", "/metrics")
    assert answer.status == 200, answer.body
    return Scraped(answer.body.decode())


def names_in(expressions: Iterable[str]) -> set[str]:
    """The names of our metrics in queries, prefix included."""
    return {name for each in expressions for name in re.findall(rf"\b{PREFIX}\w+", each)}


async def told_names(folder: Path) -> set[str]:
    """The names of all samples that a proxy tells which has seen all there is to be told."""
    async with serve(folder, accounts=["a"]) as service:
        account, grant = await service.add_login("login")
        service.clock.advance(3600)
        await service.admin("POST", f"/api/accounts/{account.id}/refresh")
        service.simulator.script(grant, quota_429())
        for _ in range(2):
            await service.message()
        return {each.name for each in (await scraped(service)).samples}
