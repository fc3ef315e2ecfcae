"""The shapes of the admin API's answers, for its description. The handlers answer with dicts; a test compares the two.

Times are RFC 3339 in UTC. `None` is what is not known or not there.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType

Times = str | None
Ms = int | float
Outcome = Literal["ok", "client_error", "limited", "upstream_error", "refused", "aborted"]


class Answer(Struct, forbid_unknown_fields=True, rename={"from_": "from"}):
    """An object with just these members; one with a default may be absent."""


class Changed(Answer):
    """The answer to a request that has changed something."""

    warning: str | UnsetType = UNSET
    """It is done, and not in the audit log yet."""


class Problem(Answer):
    """What went wrong. `current` is how the thing is now, if another admin has changed it meanwhile."""

    type: str
    message: str
    current: dict[str, Any] | UnsetType = UNSET


class Error(Answer):
    """Every error has this shape. One of a request that is malformed as HTTP has `type` and `request_id` too."""

    error: Problem
    type: Literal["error"] | UnsetType = UNSET
    request_id: str | UnsetType = UNSET


# health and sign-in


class Alive(Answer):
    """Whether the accounts can serve: the process itself is alive."""

    status: Literal["healthy", "degraded", "unhealthy"]
    version: str
    uptime_seconds: float


class State(Answer):
    """Whether it takes requests, or any account can serve; with a reason if not."""

    status: Literal["ready", "not_ready", "usable", "exhausted"]
    reason: str | UnsetType = UNSET


class SignedIn(Changed, kw_only=True):
    """Who asks is signed in; `expires_at` is null if a key was sent in place of a cookie."""

    authenticated: bool
    expires_at: Times | UnsetType = UNSET


# accounts


class Window(Answer):
    """One limit of an account: `used` is a fraction of it, above 1 if it is overdrawn."""

    window: str
    used: float | None
    limit: int | None
    remaining: int | None
    status: str | None
    resets_at: Times


class Account(Answer):
    """An account, without its credential. `cache_read_share` is that of the last 24 hours."""

    id: str
    name: str
    type: Literal["api_key", "oauth"]
    organization_uuid: str | None
    organization_name: str | None
    status: Literal["active", "inactive", "rate_limited", "invalid"]
    status_reason: str | None
    status_since: Times
    rate_limited_until: Times
    unchecked: bool
    proxy: str | None
    priority: int
    weight: float
    reserve: float
    tags: list[str]
    note: str
    expires_at: Times
    last_refresh_at: Times
    last_refresh_error: str | None
    created_at: str
    updated_at: str
    etag: str
    requests: int
    errors: int
    rate_limits: int
    in_flight: int
    last_used_at: Times
    quota: list[Window]
    idle_since: Times
    conversations: int
    resources: int
    homes: int
    cache_read_share: float | None


class Accounts(Answer):
    """All accounts."""

    accounts: list[Account]


class OneAccount(Changed, kw_only=True):
    """One account."""

    account: Account


class Tested(Changed, kw_only=True):
    """What came of a request that only tests; `status` is that of its answer, null if none came."""

    ok: bool
    status: int | None
    latency_ms: Ms
    message: str


class QuotaWindow(Answer):
    """How much of a window was used, at each step."""

    window: str
    used: list[float | None]


class QuotaPoints(Answer):
    """Quota over time, oldest first."""

    range: Literal["24h", "7d"]
    from_: str
    step_seconds: int
    windows: list[QuotaWindow]


class Login(Answer):
    """An OAuth login that has begun. Its state works once, until `expires_at`."""

    authorization_url: str
    state: str
    flow_id: str
    expires_at: str


# client keys


class KeyLimits(Answer):
    """What a client key may use at most; null is no limit."""

    requests_per_minute: int | None
    concurrent_requests: int | None
    tokens_per_day: int | None
    tokens_per_month: int | None
    cost_usd_per_day: float | None
    cost_usd_per_month: float | None


class Used(Answer):
    """What a client key has used of its budgets."""

    tokens_today: float
    tokens_this_month: float
    cost_usd_today: float
    cost_usd_this_month: float


class Meter(Answer):
    """How much of one limit is used; `reserved` is for requests in flight, in addition."""

    limit: str
    most: float
    used: float
    reserved: float
    resets_at: Times


class FormerKey(Answer):
    """A replaced key, masked, which works until `ends_at`."""

    key: str
    ends_at: str
    last_used_at: Times


class Token(Answer):
    """A client key. `key` is masked, except in the answer that makes it."""

    id: str
    name: str
    key: str
    role: Literal["user", "admin", "metrics"]
    status: Literal["active", "inactive", "revoked"]
    expires_at: Times
    limits: KeyLimits
    models: list[str]
    group: str | None
    tags: list[str]
    declared: bool
    former_keys: list[FormerKey]
    requests: int
    last_used_at: Times
    created_at: str
    updated_at: str
    etag: str
    used: Used
    meters: list[Meter]


class Paging(Answer):
    """Which part of `total` this is."""

    page: int
    limit: int
    total: int


class Tokens(Answer):
    """Client keys, page by page."""

    tokens: list[Token]
    paging: Paging


class OneToken(Changed, kw_only=True):
    """One client key."""

    token: Token


# sessions


class Session(Answer):
    """A client: an address and a User-Agent under one client key."""

    id: str
    token_id: str
    account_id: str | None
    ip: str
    user_agent: str
    requests: int
    in_flight: int
    created_at: str
    last_seen_at: str
    expires_at: Times
    instance: str | UnsetType = UNSET


class Sessions(Answer):
    """All sessions."""

    sessions: list[Session]
    total: int


class OneSession(Changed, kw_only=True):
    """The session that was ended."""

    session: Session


# usage


class Traffic(Answer):
    """What requests came to. `cost_usd` is null if nothing has a known price."""

    requests: int
    errors: int
    aborted: int
    rate_limited: int
    input_tokens: int
    output_tokens: int
    cache_creation_input_tokens: int
    cache_read_input_tokens: int
    cost_usd: float | None
    unpriced_requests: int
    estimated_requests: int
    turns_stayed: int
    turns_moved: int


class Reset(Answer):
    """The next reset of a limit."""

    account_id: str
    name: str
    window: str
    at: str


class Capacity(Answer):
    """How much quota is left: a mean over the `known` of the `accounts` in service."""

    left: float | None
    known: int
    accounts: int
    empty_at: Times
    resets: list[Reset]


class Affinity(Answer):
    """How many turns of conversations stayed with their account; `moved` has the others by reason."""

    turns: int
    new: int
    stayed: int
    stayed_share: float | None
    moved: dict[str, int]
    moved_cost_usd: float | None
    moved_unpriced: int
    conversations: int
    resources: int


class Statistics(Answer):
    """What the proxy does as a whole."""

    total_accounts: int
    active_accounts: int
    inactive_accounts: int
    rate_limited_accounts: int
    invalid_accounts: int
    accounts_needing_refresh: int
    oldest_token_age_hours: float
    system_health: Literal["healthy", "degraded", "unhealthy"]
    reasons: list[str]
    uptime_seconds: float
    capacity: Capacity
    in_flight: int
    sessions: int
    client_keys: int
    since_start: Traffic
    today: Traffic
    yesterday: Traffic
    ttfb_ms: dict[str, float | None]
    unclassified_errors: int
    affinity: Affinity


class UsageBucket(Traffic, kw_only=True):
    """Usage of one interval."""

    start: str
    cache_read_share: float | None


class UsageRow(Traffic, kw_only=True):
    """Usage by one thing; by two of them, each id and name has the word for it."""

    id: str | UnsetType | None = UNSET
    name: str | UnsetType | None = UNSET
    account_id: str | UnsetType | None = UNSET
    account_name: str | UnsetType | None = UNSET
    token_id: str | UnsetType | None = UNSET
    token_name: str | UnsetType | None = UNSET
    model_id: str | UnsetType | None = UNSET
    model_name: str | UnsetType | None = UNSET
    cache_read_share: float | None
    buckets: list[UsageBucket] | UnsetType = UNSET


class Usage(Answer):
    """Usage of a span of time."""

    from_: str
    to: str
    by: str
    rows: list[UsageRow]


class Columns(Answer):
    """For each number the values of all bars, oldest first. `ttfb_ms` is a sum over `ttfb_count` requests."""

    ok: list[float]
    client_error: list[float]
    limited: list[float]
    upstream_error: list[float]
    refused: list[float]
    aborted: list[float]
    input_tokens: list[float]
    output_tokens: list[float]
    cache_creation_input_tokens: list[float]
    cache_read_input_tokens: list[float]
    cost_usd: list[float]
    unpriced_requests: list[float]
    ttfb_ms: list[float]
    ttfb_count: list[float]


class Failures(Columns, kw_only=True):
    """With the tries that failed, if it is about one account."""

    try_limited: list[float] | UnsetType = UNSET
    try_credential: list[float] | UnsetType = UNSET
    try_refused: list[float] | UnsetType = UNSET
    try_upstream_error: list[float] | UnsetType = UNSET
    try_client_error: list[float] | UnsetType = UNSET


class Part(Failures, kw_only=True):
    """The bars of one account, client key or model; of everything under the id null."""

    id: str | None
    name: str | None


class Before(Failures, kw_only=True):
    """The bars of as much time before."""

    from_: str
    span_seconds: int


class Chart(Answer):
    """Usage as charts show it: of the largest, and what all others come to."""

    from_: str
    to: str
    span_seconds: int
    split: list[Part]
    rest: Columns | None
    before: Before | None


# requests and explanations


class Try(Answer):
    """One exchange with the upstream; `status` is 0 if no answer came. `failure`: what the account failed at."""

    account_id: str
    account_name: str
    status: int
    verdict: str
    evidence: str
    failure: Literal["limited", "credential", "refused", "upstream_error", "client_error"] | None
    request_id: str | None
    at_ms: int
    ms: int


class Request(Answer):
    """One of the last requests: facts about it, never what was asked or answered."""

    id: int
    request_id: str
    upstream_request_id: str | None
    at: str
    key_id: str
    key_name: str
    session_id: str | None
    account_id: str | None
    account_name: str | None
    model: str | None
    method: str
    path: str
    stream: bool
    tries: list[Try]
    why: str | None
    moved: str | None
    status: int
    outcome: Outcome
    cut_by: Literal["client", "upstream", "admin", "proxy", "shutdown"] | None
    error: str | None
    reason: str | None
    ttfb_ms: int | None
    duration_ms: int
    answer_bytes: int
    input_tokens: int | None
    output_tokens: int | None
    cache_creation_input_tokens: int | None
    cache_read_input_tokens: int | None
    estimated: bool
    cost_usd: float | None
    instance: str | UnsetType = UNSET


class Requests(Answer):
    """The last requests, newest first."""

    requests: list[Request]


class OneRequest(Answer):
    """One request."""

    request: Request


class Named(Answer):
    """An account by id and name."""

    id: str
    name: str


class Refused(Answer):
    """What a client would be told."""

    status: int
    type: str
    message: str


class Verdict(Answer):
    """Why an account would get a request, or would not."""

    id: str
    name: str
    verdict: str
    until: Times
    reason: str | None


class Explanation(Answer):
    """Which account a request would get, and why."""

    account: Named | None
    why: str | None
    held_by: Any
    before: Named | None
    error: Refused | None
    accounts: list[Verdict]


# events and settings


class Actor(Answer):
    """Who did it."""

    kind: Literal["admin", "key", "system"]
    id: str | None
    name: str | None
    address: str | None


class Subject(Answer):
    """What it is about, by the name that it had then."""

    kind: Literal["account", "token", "session"]
    id: str
    name: str | None


class Event(Answer, kw_only=True):
    """What happened. `parts`: the text in parts, those that are times apart from the others."""

    id: int
    at: str
    level: Literal["info", "success", "warning", "error"]
    kind: str
    text: str
    parts: list[Any] | UnsetType = UNSET
    actor: Actor
    subject: Subject | None
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    instance: str | UnsetType = UNSET


class Events(Answer):
    """Events, newest first; `next_before` is the cursor of the next page, null if there is none."""

    events: list[Event]
    next_before: int | None


class Instance(Answer):
    """A process that serves a pool which is shared. `lag_ms`: how long what it tells takes through the store and back.

    `cpu` is the part of one core that it used lately.
    """

    id: str
    host: str
    pid: int
    port: int | None
    version: str
    started_at: str
    last_seen_at: str
    requests_per_s: float
    streams: int
    cpu: float
    lag_ms: float | None
    draining: bool


class Instances(Answer):
    """Those that share the store; none if the state is in files."""

    instances: list[Instance]


class Finding(Answer):
    """What a start has found damaged or missing."""

    id: str
    at: str
    text: str


class Findings(Changed, kw_only=True):
    """What starts have found, until an admin has seen it."""

    findings: list[Finding]


class Key(Answer):
    """A key of the configuration, masked if it is a secret; `place` is what sets it, null for a default.

    `live`: it can change while the proxy runs.
    """

    key: str
    value: Any
    place: str | None
    live: bool


class Differing(Answer):
    """A key that the configuration has anew; `applied` if that is in effect now, else it needs a restart."""

    key: str
    value: Any
    place: str | None
    applied: bool


class Folder(Answer):
    """The data folder; `encryption_key` is the id of the key, null if its files are plain."""

    data_folder: str
    bytes: int
    encryption_key: str | None


class OAuth(Answer):
    """Whether logins can be added, and which keys of the configuration are missing for that."""

    ready: bool
    missing: list[str]


class Target(Answer):
    """Where notifications go, and of which events."""

    name: str
    kind: str
    events: list[str]


class Notifications(Answer):
    """Where notifications go."""

    targets: list[Target]


class Delivery(Answer):
    """What became of a test notification."""

    name: str
    kind: str
    ok: bool
    status: int | None
    latency_ms: int
    message: str


class Deliveries(Answer):
    """What became of the test notification, at each target."""

    ok: bool
    targets: list[Delivery]


class Configuration(Answer):
    """What runs here."""

    version: str
    runtime: str
    storage: Folder
    oauth: OAuth
    notifications: Notifications
    config: list[Key]


class Reloaded(Changed, kw_only=True):
    """The keys that differ from what was in effect."""

    changed: list[Differing]


class Export(Answer):
    """Accounts, and client keys if wanted, in a file that the passphrase opens."""

    format: str
    version: int
    kdf: str
    n: int
    r: int
    p: int
    cipher: str
    salt: str
    nonce: str
    content: str


class Arrival(Answer):
    """What becomes of an account in the file; `there`: it is here already, and stays as it is."""

    id: str
    name: str
    type: Literal["api_key", "oauth"]
    outcome: Literal["taken", "there"]


class Imported(Changed, kw_only=True):
    """What was taken from a file, or would be."""

    dry_run: bool
    accounts: list[Arrival]
    warnings: list[str]


class Frames(Answer):
    """What a dashboard has not seen yet, for one that polls."""

    frames: list[dict[str, Any]]
