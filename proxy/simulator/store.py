"""What each organization has of one kind of resource."""

from __future__ import annotations

from typing import Generic, TypeVar

from .auth import Organization
from .replies import ApiError

Item = TypeVar("Item")


class Store(Generic[Item]):
    """Items by organization and id. An item of another organization is as unknown as one that never was.

    `missing` is the message of the 404 with `{}` for the id.
    """

    def __init__(self, missing: str) -> None:
        self._missing = missing
        self._items: dict[str, dict[str, Item]] = {}

    def add(self, organization: Organization, item_id: str, item: Item) -> None:
        self._items.setdefault(organization.uuid, {})[item_id] = item

    def find(self, organization: Organization, item_id: str) -> Item | None:
        return self._items.get(organization.uuid, {}).get(item_id)

    def require(self, organization: Organization, item_id: str, missing: str | None = None) -> Item:
        """ApiError 404 if `organization` has no such item; some routes have a `missing` of their own."""
        item = self.find(organization, item_id)
        if item is None:
            raise ApiError(404, (missing or self._missing).format(item_id))
        return item

    def remove(self, organization: Organization, item_id: str) -> Item:
        """The item, which is gone; ApiError 404 as `require`."""
        item = self.require(organization, item_id)
        del self._items[organization.uuid][item_id]
        return item

    def newest_first(self, organization: Organization) -> list[Item]:
        return list(reversed(self._items.get(organization.uuid, {}).values()))

    def everything(self) -> list[Item]:
        """The items of all organizations."""
        return [item for items in self._items.values() for item in items.values()]

    def clear(self) -> None:
        self._items.clear()
