"""The instances that share one store."""

from __future__ import annotations

from handlers.base import AdminHandler, Admins
from proxy.dashboard.instances import Instances


class InstanceList(AdminHandler):
    """`/api/admin/instances`: none if the state is in files, since nobody else can serve it then."""

    def initialize(self, *, who: Admins, instances: Instances | None) -> None:
        self.only_for(who)
        self.instances = instances

    def get(self) -> None:
        found = self.instances
        views = [] if found is None else [found.view(id) for id in found.ids()]
        self.answer({"instances": views})
