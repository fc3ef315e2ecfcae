"""What starts have found damaged or missing in the data folder, until an admin has seen it."""

from __future__ import annotations

from handlers.base import AdminHandler, Admins
from proxy.storage.findings import Findings


class FindingList(AdminHandler):
    """`/api/admin/findings`; DELETE says that an admin has seen all of them."""

    def initialize(self, *, who: Admins, findings: Findings) -> None:
        self.only_for(who)
        self.findings = findings

    def get(self) -> None:
        self.answer({"findings": self.findings.view()})

    async def delete(self) -> None:
        seen = self.findings.view()
        await self.findings.acknowledge(each["id"] for each in seen)
        await self.answer_changed({"findings": seen})
