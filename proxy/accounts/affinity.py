"""Where a request belongs: with the account that has what it names, its conversation, or what its group has made.

Prompt caches, thinking blocks, files, batches and the like live in one organisation: elsewhere they are cold, refused
or unknown. `place` says where a request belongs and changes nothing; `begun` and `answered` note what became of it.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final, Literal

from msgspec import Struct

from proxy.accounts.account import Account, Status
from proxy.accounts.conversations import LONGEST_SESSION, Conversations
from proxy.accounts.lately import Name
from proxy.accounts.pool import Pool
from proxy.accounts.resources import Holding, Resources
from proxy.errors import Forbidden, InsufficientStorage, InvalidRequest, NotFound, RequestError
from proxy.http.headers import account_names
from proxy.http.peek import Peek
from proxy.http.target import Target, is_generated

Why = Literal["picked", "resource", "thread", "conversation", "session", "home", "new", "only"]
"""Why a request goes to its account. `only`: there is no other one."""

Moved = Literal["limited", "invalid", "inactive", "gone", "refused", "failed", "resource", "picked"]
"""Why a conversation has changed its account."""

TURNS_BACK = 3
"""A conversation of so many messages holds an answer, which may be signed by the account that gave it."""

COLLECTION_OF: Final = {
    "file_id": "files",
    "file_ids": "files",
    "container": "containers",
    "skill_id": "skills",
    "agent": "agents",
    "agent_id": "agents",
    "environment_id": "environments",
    "vault_id": "vaults",
    "vault_ids": "vaults",
    "memory_store_id": "memory_stores",
    "memory_store_ids": "memory_stores",
    "scope_id": "sessions",
    "user_profile_id": "user_profiles",
    "deployment_id": "deployments",
}
"""Members and arguments that name what lives in one account. Others count only if what they name is known."""

_MISSING: Final = {
    "files": "File `{}` not found.",
    "batches": "Message Batch with id {} not found.",
    "containers": "Container not found: {}",
    "skills": "Skill not found: {}",
    "agents": "agent {} not found",
    "environments": "Environment {} not found.",
    "sessions": "Session not found: {}",
    "vaults": "vault {} not found",
    "memory_stores": "memory store not found: {}",
    "user_profiles": "user profile {} not found",
}  # the API's own words

_STRICT: Final = ("picked", "resource", "thread")

log = logging.getLogger(__name__)


class Asking(Struct, frozen=True, gc=False):
    """What of a request says where it belongs.

    `picked` is the account that it names by hand, `session` the one that it says to be of, `profiles` what its headers
    name as user profiles; `group` and `tags` are its client key's.
    """

    method: str
    target: Target
    group: str
    peek: Peek
    picked: str | None = None
    session: str | None = None
    tags: tuple[str, ...] = ()
    profiles: Sequence[str] = ()

    @property
    def is_turn(self) -> bool:
        """Whether it is a turn of a conversation."""
        return self.method == "POST" and self.target.segments == ("v1", "messages")

    @property
    def lists(self) -> bool:
        """Whether it asks for what there is of a collection, or how much."""
        return self.method in ("GET", "HEAD") and self.target.is_collection

    @property
    def makes(self) -> bool:
        """Whether it creates something that lasts."""
        return self.method == "POST" and self.target.is_collection


class Placement(Struct, frozen=True, gc=False):
    """Where a request belongs. With `strict` to no other account than `account_id`; None: to whichever has room.

    `names` are what its conversation is found by from now on, `after` what it was found by. `before` is the account
    that had the turn before, None if there was none. `goes_on`: it may be a later turn, whose conversation was placed
    meanwhile. `held_by` is the id because of which it is strict, for people.
    """

    why: Why
    account_id: str | None = None
    strict: bool = False
    group: str = ""
    names: tuple[Name, ...] = ()
    after: Name | None = None
    before: str | None = None
    goes_on: bool = False
    is_long: bool = False
    makes: bool = False
    held_by: str | None = None

    @property
    def only(self) -> str | None:
        """The id of the only account that may be asked; None if there are others."""
        return self.account_id if self.strict else None

    @property
    def is_later(self) -> bool:
        """Whether it is a later turn of a conversation that is kept together."""
        return self.before is not None and bool(self.names)


class Unlocated(Exception):
    """An id that is not known, and may be in any account: `id` of the `collection`."""

    def __init__(self, id: str, collection: str) -> None:
        super().__init__(id)
        self.id = id
        self.collection = collection


class Affinity:
    """Decides where requests belong.

    `shared`: everybody sees everything (`balancer.isolation: none`). Without `on`, conversations are not kept together.
    """

    def __init__(
        self, pool: Pool, resources: Resources, conversations: Conversations, *, on: bool, shared: bool
    ) -> None:
        self.resources = resources
        self.conversations = conversations
        self._pool = pool
        self.on = on
        self.shared = shared
        self.turns = Counter[str]()
        """Turns of conversations since the start: `new`, `stayed`, and why the others moved."""

    # before a request is sent

    def place(self, asking: Asking) -> Placement:
        """Say where a request belongs.

        Raises InvalidRequest, NotFound, InsufficientStorage; Unlocated if that is to be found out by asking the
        accounts.
        """
        makes = asking.makes
        if makes and self.resources.unsaved is not None:
            raise InsufficientStorage(
                f"where the new one lives could not be stored: {self.resources.unsaved}"
            )
        group, session, chain = asking.group, asking.session, asking.peek.chain
        # A single message begins a conversation, however often it was sent.
        goes_on = len(chain) > 1 or session is not None
        after = self.conversations.first(group, session, chain) if goes_on and self.on else None
        before = None if after is None else self.conversations.account_of((after,))
        why, account_id, held_by = self._belongs(asking, before)
        if account_id is not None and asking.tags and not self._pool[account_id].serves(asking.tags):
            name = self._pool[account_id].name
            raise Forbidden(f"this client key may not use account {name!r}: it has none of the key's tags")
        return Placement(
            why,
            account_id,
            strict=why in _STRICT or (why == "home" and makes),
            group=group,
            names=self._names(asking) if self.on else (),
            after=after,
            before=before,
            goes_on=goes_on,
            is_long=session is not None or len(chain) >= TURNS_BACK,
            makes=makes,
            held_by=held_by,
        )

    def _belongs(self, asking: Asking, before: str | None) -> tuple[Why, str | None, str | None]:
        """Why it belongs to an account, which one, and the id that ties it there."""
        peek, held, wrote = asking.peek, self._held(asking), self._wrote(asking)
        if asking.picked is not None:
            return "picked", self._picked(asking.picked, held), None
        if held is not None:
            return "resource", *held
        if peek.previous_message is not None and len(self._pool) > 1:
            if wrote is None or not self._pool.is_usable(wrote) or self._pool.cooldowns.is_lost(wrote):
                raise _no_thread(peek.previous_message)
            return "thread", wrote, peek.previous_message
        if before is not None and not asking.makes and self._may_have(before, asking):
            return "conversation" if asking.session is None else "session", before, None
        if asking.makes or (peek.may_generate and asking.is_turn):
            home = self._home(asking)
            if home is not None:
                return "home", home, None
        if wrote is not None and self._may_have(wrote, asking):
            return "conversation", wrote, None
        return "only" if len(self._pool) == 1 else "new", None, None

    def _picked(self, name: str, held: tuple[str, str] | None) -> str:
        """The account that a request names by hand. Raises InvalidRequest."""
        account = _account_named(self._pool, name)
        if account is None:
            raise InvalidRequest(f"x-proxy-account: there is no account {name[:64]!r}", should_retry=False)
        if held is not None and held[0] != account.id:
            raise InvalidRequest(
                f"x-proxy-account names {account.name!r}, and {held[1]} is in {self._name(held[0])!r}",
                should_retry=False,
            )
        return account.id

    def _names(self, asking: Asking) -> tuple[Name, ...]:
        """What the conversation is found by from this turn on."""
        if not asking.is_turn:
            return ()
        group, session, chain = asking.group, asking.session, asking.peek.chain
        by_session: tuple[Name, ...] = () if session is None else ((group, session[:LONGEST_SESSION]),)
        return (*by_session, (group, chain[-1])) if chain else by_session

    def _name(self, account_id: str) -> str:
        return self._pool[account_id].name if account_id in self._pool else account_id

    def _held(self, asking: Asking) -> tuple[str, str] | None:
        """The account that has what the request names, and the first id of it; None if it names nothing."""
        peek, target = asking.peek, asking.target
        names = peek.named or target.resource or target.named or target.perhaps or asking.profiles
        if not (names or peek.too_many or peek.unreadable):
            return None  # the most frequent case
        if peek.too_many and (
            len(self._pool) > 1 or (not self.shared and self.resources.has_others_than(asking.group))
        ):
            raise InvalidRequest(
                "the body names more files and the like than are looked up", should_retry=False
            )
        if peek.unreadable and len(self.resources) and not self.shared:
            raise InvalidRequest("the body has an encoding in which it may name anything", should_retry=False)
        found: dict[str, str] = {}
        for id, collection in _referred(asking, self.resources):
            account_id = self._account_of(id, collection, asking)
            if account_id is not None:
                found.setdefault(account_id, id)
        if len(found) > 1:
            both = " and ".join(f"{id} in {self._name(account_id)!r}" for account_id, id in found.items())
            raise InvalidRequest(
                f"what this request names lives in different accounts: {both}; make one of them again beside the other",
                should_retry=False,
            )
        return next(iter(found.items()), None)

    def _account_of(self, id: str, collection: str | None, asking: Asking) -> str | None:
        """The account that has this. None if anybody may be asked. Raises NotFound, Unlocated."""
        holding = self.resources.get(id)
        if holding is not None and self.sees(asking.group, holding.group):
            if holding.account_id in self._pool:
                return holding.account_id
            holding = None  # its account is gone, and may have come back under another id
        if holding is None and (collection is None or len(self._pool) <= 1):
            return None
        if holding is None and self.shared and collection is not None:
            raise Unlocated(id, collection)
        # Also if it is another group's.
        raise missing(id, collection, in_message=asking.target.segments[:2] == ("v1", "messages"))

    def sees(self, group: str, owner: str) -> bool:
        """Whether keys of a group see what another group has."""
        return self.shared or group == owner

    def merges(self, asking: Asking, placement: Placement) -> bool:
        """Whether what is asked for is a list that is to be merged over accounts, or from which others' items go."""
        if not asking.lists:
            return False
        if placement.why == "resource":  # what is below it may have to be learnt
            return True
        groups = self.resources.groups_of(asking.target.collection or "")
        if len(self._pool) <= 1:
            return not self.shared and any(group != asking.group for group in groups)
        return asking.target.is_known or bool(groups)

    def accounts_of(self, asking: Asking, placement: Placement) -> list[str]:
        """The accounts in which the group may see some of the collection, its home first. None: anyone may be asked.

        One that does not work is among them too: without it the list would be cut short, and nobody would know. Not one
        that an admin has taken out and of which nothing is known.
        """
        if placement.strict and placement.account_id is not None:
            return [placement.account_id]
        home, collection = self._home(asking), asking.target.collection or ""
        groups = self.resources.groups_of(collection) if self.shared else (asking.group,)
        known = {id for group in groups for id in self.resources.accounts_of(group, collection)}
        found = (
            account.id
            for account in self._pool
            if account.serves(asking.tags)
            and (account.id in known or (self.shared and account.status is not Status.INACTIVE))
        )
        return sorted(found, key=lambda id: id != home)

    def owns(self, group: str, account_id: str, id: str) -> bool:
        """Whether the group sees this item of a list of the account."""
        holding = self.resources.get(id)
        if holding is None:  # what the API has for everybody; or whose it is cannot matter
            return len(self._pool) == 1 or not is_generated(id)
        is_there = holding.account_id == account_id
        came_back = len(self._pool) == 1 and holding.account_id not in self._pool
        return (is_there or came_back) and self.sees(group, holding.group)

    def _wrote(self, asking: Asking) -> str | None:
        """The account of the message that a thread goes on from, or else of the one that is diagnosed.

        None if it is not known. Raises NotFound for a thread that may be another group's.
        """
        peek = asking.peek
        message_id = peek.previous_message or peek.diagnosed_message
        if message_id is None:
            return None
        writer = self.conversations.writer_of(message_id)
        if writer is not None and self.sees(asking.group, writer.group):
            return writer.account_id
        if peek.previous_message is not None and (writer is not None or len(self._pool) > 1):
            raise _no_thread(peek.previous_message)
        return None

    def _may_have(self, account_id: str, asking: Asking) -> bool:
        return account_id in self._pool and self._pool[account_id].serves(asking.tags)

    def _home(self, asking: Asking) -> str | None:
        """The account for what the group makes: the one it has, else the one that is home to the fewest."""
        working = [account for account in self._pool if account.works and account.serves(asking.tags)]
        home = self.resources.home(asking.group)
        if any(account.id == home for account in working):
            return home
        is_lost = self._pool.cooldowns.is_lost
        able = [each for each in working if each.status is Status.ACTIVE and not is_lost(each.id)]
        return min((each.id for each in able or working), key=self.resources.homes_in, default=None)

    def _has_home(self, group: str) -> bool:
        home = self.resources.home(group)
        return home is not None and home in self._pool and self._pool[home].works

    # what became of it

    def begun(self, placement: Placement, account_id: str) -> None:
        """Note that the request goes to this account: what comes beside it, or after it, goes there too."""
        if placement.makes and not self._has_home(placement.group):
            self.resources.house(placement.group, account_id)
        if not placement.names:
            return
        with_it = self.account_of(placement)
        if with_it is None or (with_it != account_id and not self._pool.is_usable(with_it)):
            self.conversations.keep(placement.names, account_id)

    def account_of(self, placement: Placement) -> str | None:
        """The account that a request belongs to by now: another turn of its conversation may have been moved."""
        if placement.strict or not placement.goes_on:
            return placement.account_id
        return self.conversations.account_of(placement.names[:1]) or placement.account_id

    def answered(self, placement: Placement, account_id: str, *, failed: bool) -> Moved | None:
        """Note that the account has given the turn's answer.

        Returns why the conversation was moved to it; None if it stayed.
        """
        if not placement.names:
            return None
        self.conversations.turn(placement.names, account_id, after=placement.after)
        before = placement.before
        if before is None or before == account_id:
            self.turns["new" if before is None else "stayed"] += 1
            return None
        moved = _why_moved(self._pool, placement, failed=failed)
        self.turns[moved] += 1
        log.info(
            "conversation moved from=%s to=%s group=%s reason=%s", before, account_id, placement.group, moved
        )
        return moved


def _why_moved(pool: Pool, placement: Placement, *, failed: bool) -> Moved:
    if placement.why == "picked":
        return "picked"
    if placement.why in ("resource", "thread"):
        return "resource"
    before = placement.before
    if before is None or before not in pool:
        return "gone"
    match pool[before].status:
        case Status.RATE_LIMITED:
            return "limited"
        case Status.INVALID:
            return "invalid"
        case Status.INACTIVE:
            return "inactive"
    return "failed" if failed else "refused"


def _account_named(pool: Pool, name: str) -> Account | None:
    """The account of this name or id, as the value of a header may have it."""
    return next((each for said in account_names(name) for each in pool if said in (each.name, each.id)), None)


def _referred(asking: Asking, resources: Resources) -> Iterator[tuple[str, str | None]]:
    """The ids that the request names, each with its collection; None if it counts only if it is known."""
    if asking.target.resource is not None:
        yield asking.target.resource, asking.target.collection
    for segment in asking.target.perhaps:
        yield segment, None
    for name, id in asking.target.named:
        if id:
            yield id, COLLECTION_OF.get(name)
    for id in filter(None, asking.profiles):
        yield id, "user_profiles"
    # A body may name 100,000. Of those that are alike the first one decides.
    alike = set[tuple[Holding | None, str | None]]()
    for name, id in asking.peek.named:
        collection, holding = COLLECTION_OF.get(name), resources.get(id)
        if holding is None and collection is not None and not is_generated(id):
            collection = None  # a word of the client's own, or a skill that everybody has
        if (holding, collection) not in alike:
            alike.add((holding, collection))
            yield id, collection


def _no_thread(message_id: str) -> NotFound:
    """What the API says, from which SDKs recover."""
    return NotFound(
        f"No usable thread state was found for `previous_message_id` {message_id}.",
        details={"details": {"error_code": "thread_not_found"}},
    )


def missing(id: str, collection: str | None, *, in_message: bool = False) -> RequestError:
    """What the API says of an id that it does not have, in the words of the route."""
    if in_message and collection == "files":
        return NotFound(f"File not found: {id}")
    return NotFound(_MISSING.get(collection or "", "{} not found").format(id))
