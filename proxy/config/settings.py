"""Every option: type, default, unit and meaning; read from a YAML file and the environment over it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, model_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, EnvSettingsSource, InitSettingsSource, SettingsConfigDict

from proxy.config.client_keys import ClientKeys
from proxy.config.targets import DeclaredTarget, Targets
from proxy.config.types import (
    DAY,
    HOUR,
    MINUTE,
    NEW_KEY,
    SECOND,
    AdminKey,
    AdminKeyFile,
    BaseUrl,
    CaFile,
    Collector,
    CorsOrigins,
    Duration,
    EncryptionKey,
    EncryptionKeys,
    Endpoint,
    Flag,
    Folder,
    Host,
    KeyFile,
    KeysFile,
    Networks,
    Origins,
    OutboundProxy,
    Part,
    Port,
    RedirectUri,
    Secret,
    Share,
    Size,
    Slots,
    StoreName,
    StoreUrl,
    Text,
    Tries,
    Wait,
    WebhookUrl,
    Workers,
    one_of,
)
from proxy.config.yaml_file import Written, read
from proxy.errors import SettingsError
from proxy.storage.address import StoreAddress


class Section(BaseModel):
    """One group of keys; a key left empty has its default."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _without_empty(cls, values: object) -> object:
        if not isinstance(values, dict):
            return {} if values is None else values
        return {
            key: value for key, value in values.items() if value is not None or key not in cls.model_fields
        }


def _wrong(text: str, *keys: str) -> PydanticCustomError:
    """What is wrong between the keys of a section, told at the first of `keys` that is set; a variable goes first."""
    return PydanticCustomError("wrong_together", "{error}", {"error": text, "keys": keys})


class Server(Section):
    host: Host = "127.0.0.1"  # where it listens
    port: Port = 4000  # 0 takes any free one
    workers: Workers = 1  # processes on that port, each an instance; more than one need storage.url
    request_timeout: Duration = 5 * MINUTE  # longest silence in an answer; a GET's event stream may be silent
    answer_timeout: Duration | None = None  # wait for the upstream's headers; None: twice request_timeout
    drain_timeout: Wait = 30 * SECOND  # wait of a shutdown for streams
    trusted_proxies: Networks = ()  # networks whose X-Forwarded-For, -Proto and -Host are believed
    public_origins: Origins = ()  # origins under which admins reach the dashboard
    cors_origins: CorsOrigins = ()  # browser origins, or `*`, that may call /v1
    max_body_size: Size = 512_000_000  # bytes of the largest request body


class Logger(Section):
    level: Annotated[str, one_of("debug", "info", "warning", "error")] = "info"  # the least that is written
    format: Annotated[str, one_of("text", "json")] = "text"


class Auth(Section):
    api_key: AdminKey | None = None  # the admin key
    api_key_file: AdminKeyFile | None = None  # a file that holds it
    client_keys: ClientKeys = ()  # beside those that admins make

    @model_validator(mode="after")
    def _one_key(self) -> Self:
        if self.api_key and self.api_key_file:
            raise _wrong("api_key and api_key_file are both set: leave one", "api_key_file", "api_key")
        if not self.api_key and not self.api_key_file:
            raise PydanticCustomError("missing", "no admin key")
        for number, declared in enumerate(self.client_keys, 1):
            if declared.key == self.key:
                raise _wrong(
                    f"number {number} has the admin key, which opens more: give it one of its own",
                    "client_keys",
                )
        return self

    @property
    def key(self) -> str:
        """The admin key, wherever it was set."""
        key = self.api_key or self.api_key_file
        assert key is not None
        return key.get_secret_value()


class OAuth(Section):
    """The operator's own registration with the OAuth server; needed only to add OAuth accounts."""

    client_id: Text | None = None
    authorize_url: Endpoint | None = None  # where an admin is sent to consent
    token_url: Endpoint | None = None  # takes JSON
    redirect_uri: RedirectUri | None = None  # None: this server's /oauth/callback
    scope: Text = "user:profile user:inference"


class Claude(Section):
    base_url: BaseUrl = "https://api.anthropic.com"  # the upstream
    proxy: OutboundProxy | None = None  # what goes to the upstream and the OAuth server goes through it
    ca_file: CaFile | None = None  # certificates to trust beside the system's
    allow_admin_paths: Flag = False  # lets POST /v1/oauth/token and /v1/organizations/** go upstream


class Storage(Section):
    data_folder: Folder = Field(default="~/.claude-proxy/data", validate_default=True)  # 0700, its files 0600
    encryption_key: EncryptionKey | None = (
        None  # what credentials are encrypted with there; None: they are plain
    )
    encryption_key_file: KeyFile | None = None  # a file that holds it
    encryption_key_old: EncryptionKeys = ()  # may still open files; each start rewrites them with the key, or plain
    encryption_key_old_file: KeysFile = ()  # a file that holds them
    keep_events: Duration = 90 * DAY  # how long the audit log is kept
    keep_requests: Duration | None = (
        None  # how long the request log is kept on disk; None: it is only in memory
    )
    url: StoreUrl | None = None  # a Redis or Valkey that instances share; None: JSON files in data_folder
    name: StoreName = "claude-proxy"  # of the pool there, what all its keys begin with
    timeout: Duration = 0.25 * SECOND  # the longest wait for an answer of it
    durability: Annotated[str, one_of("none", "aof", "replica")] = "none"  # what a write there has reached
    ca_file: CaFile | None = None  # certificates to trust there, beside the system's

    @model_validator(mode="after")
    def _one_key(self) -> Self:
        if self.encryption_key and self.encryption_key_file:
            raise _wrong(
                "encryption_key and encryption_key_file are both set: leave one",
                "encryption_key_file",
                "encryption_key",
            )
        return self

    @property
    def key(self) -> bytes | None:
        """The key that files are encrypted with, wherever it was set."""
        key = self.encryption_key or self.encryption_key_file
        return None if key is None else key.get_secret_value()

    @property
    def address(self) -> StoreAddress | None:
        """Where the shared store is; None if there is none."""
        return None if self.url is None else StoreAddress.read(self.url.get_secret_value())

    @property
    def old_keys(self) -> list[bytes]:
        """The keys that files may still be encrypted with."""
        return [key.get_secret_value() for key in (*self.encryption_key_old, *self.encryption_key_old_file)]


class Retry(Section):
    """Tries of one request over all accounts, before its first byte reached the client."""

    max_attempts: Tries = 5
    base_delay: Duration = 1 * SECOND  # before the second try; doubles with each
    max_delay: Duration = 60 * SECOND
    jitter_max: Wait = 0.5 * SECOND  # at random on top of each delay
    resend_posts: Flag = True  # also a POST whose connection was lost after it was sent
    budget: Share = 0.2  # over all requests, further tries a request because of trouble; ten may come at once

    @model_validator(mode="after")
    def _delays_grow(self) -> Self:
        if self.max_delay < self.base_delay:
            raise _wrong(
                "max_delay is below base_delay: raise the one or lower the other", "max_delay", "base_delay"
            )
        return self


class Session(Section):
    """A client: an address and a User-Agent under one client key."""

    enabled: Flag = True  # whether the limit holds
    max_concurrent: Slots = 10  # inference requests of one client in flight
    queue_timeout: Wait = 1 * MINUTE  # wait for a place before the 429
    session_ttl: Duration = 5 * MINUTE  # how long one lives past its last request
    cleanup_enabled: Flag = True
    cleanup_interval: Duration = 1 * MINUTE  # between two removals of ended sessions


class Accounts(Section):
    idle_threshold: Duration = 7 * DAY  # without a request for so long, an account is idle
    auto_deactivate: Flag = False  # makes idle accounts inactive
    rate_limit_default: Duration = 1 * HOUR  # bench after a quota 429 that names no reset
    quota_alert: Part = 0.9  # tells when so much of a quota window is used; 0: never


class Scheduler(Section):
    interval: Duration = 1 * HOUR  # between two rounds of refresh and recovery; one more at start


class Balancer(Section):
    strategy: Annotated[str, one_of("round_robin", "most_remaining")] = "round_robin"  # who gets what is new
    affinity: Flag = True  # a conversation stays with the account that has its cache
    affinity_ttl: Duration = 1 * HOUR  # how long a conversation is remembered past its last turn
    isolation: Annotated[str, one_of("per_key", "none")] = "per_key"  # whose files and batches a key sees


class Notifications(Section):
    """What an operator has to know is posted there."""

    webhook_url: WebhookUrl | None = Field(default=None, repr=False)  # a target of kind webhook
    secret: Secret | None = None  # signs what is posted there
    targets: Targets = ()  # who is told, each with its kind
    repeat_after: Wait = 10 * MINUTE  # the same about the same is counted for so long, not told again

    @property
    def all_targets(self) -> tuple[DeclaredTarget, ...]:
        """Those of the list, and before them the one of `webhook_url`."""
        if self.webhook_url is None:
            return self.targets
        secret = None if self.secret is None else self.secret.get_secret_value()
        return (DeclaredTarget("webhook", "webhook_url", self.webhook_url, secret), *self.targets)


@dataclass(frozen=True, slots=True)
class Places:
    """Where keys were set, and what was read. Settings with the same values are equal, wherever these come from."""

    by_key: Mapping[str, str] = field(default_factory=dict, compare=False)
    path: Path | None = field(default=None, compare=False)
    variables: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)


class Tracing(Section):
    """Where traces of requests go."""

    endpoint: Collector | None = None  # an OpenTelemetry collector (OTLP over HTTP); None: no traces
    sample: Part = 1.0  # of the requests that come without a trace of their client's


class Settings(BaseSettings):
    """All of it. Made by `load_settings`: made directly it would read the process's own environment."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        env_nested_delimiter="__",
        env_nested_max_split=1,
        enable_decoding=False,
    )

    server: Server = Server()
    logger: Logger = Logger()
    auth: Auth
    oauth: OAuth = OAuth()
    claude: Claude = Claude()
    storage: Storage = Field(default_factory=Storage)  # not at import: its home folder may be missing
    retry: Retry = Retry()
    session: Session = Session()
    accounts: Accounts = Accounts()
    scheduler: Scheduler = Scheduler()
    balancer: Balancer = Balancer()
    notifications: Notifications = Notifications()
    tracing: Tracing = Tracing()

    _places: Places = PrivateAttr(default_factory=Places)

    def place(self, key: str) -> str | None:
        """Where `section.key` was set: the file with its line, or the variable; None if it has its default."""
        return self._places.by_key.get(key)

    def read_again(self) -> Settings:
        """What the same file says now, with the same variables over it. Raises SettingsError."""
        return load_settings(self._places.path, self._places.variables)

    def taking(self, key: str, other: Settings) -> Settings:
        """These settings with the value and the place that one key has in `other`."""
        section, _, name = key.partition(".")
        changed = getattr(self, section).model_copy(update={name: getattr(getattr(other, section), name)})
        settings = self.model_copy(update={section: changed})
        places = {each: place for each, place in self._places.by_key.items() if each != key}
        theirs = other.place(key)
        settings._places = replace(self._places, by_key=places if theirs is None else places | {key: theirs})
        return settings

    @property
    def outbound_proxy(self) -> str | None:
        """The URL of `claude.proxy`, with its password."""
        return None if self.claude.proxy is None else self.claude.proxy.get_secret_value()

    def secrets(self) -> list[str]:
        """What no log may show."""
        hidden = [self.notifications.secret, self.claude.proxy]
        declared = [self.auth.key, *(each.key for each in self.auth.client_keys)]
        declared += [secret for each in self.notifications.all_targets for secret in each.secrets()]
        if (address := self.storage.address) is not None and address.password:
            declared.append(address.password)
        return declared + [each.get_secret_value() for each in hidden if each is not None]


def keys() -> list[str]:
    """Every key with its section: `server.host`, `server.port`, …"""
    sections = {name: field.annotation for name, field in Settings.model_fields.items()}
    return [f"{name}.{key}" for name, kind in sections.items() if kind for key in kind.model_fields]


def load_settings(path: Path | None, environ: Mapping[str, str]) -> Settings:
    """The file's values, where there is one, with `environ`'s `SECTION__KEY` over them.

    Raises SettingsError with one line that names the file or the variable, the key and the fix.
    """
    variables = _variables(environ)
    source = EnvSettingsSource(Settings)
    source.env_vars = {name.lower(): value for name, value in variables.items()}
    written = read(path) if path else Written()
    values = InitSettingsSource(Settings, written.values)
    try:
        settings = Settings(_build_sources=((source, values), {}))
        settings._places = _places(path, written, variables)
        problem = _needs(settings)
        if problem is None:
            return settings
    except ValidationError as error:
        problem = _problem(error, path, written, variables)
    # Out here, so that the error above, which holds the values, is not this one's context.
    raise SettingsError(problem)


def _needs(settings: Settings) -> str | None:
    """What one key needs of another and does not get; None if all is well."""
    workers = settings.server.workers
    if workers == 1 or settings.storage.url is not None:
        return None
    return (
        f"{settings.place('server.workers')}: server.workers: {workers} processes cannot share a data folder: "
        "set storage.url to a Redis or Valkey, or server.workers to 1"
    )


def _places(path: Path | None, written: Written, variables: Mapping[str, str]) -> Places:
    lines = {key: written.place(path, key) for key in written.lines if written.is_set(key)}
    by_key = lines | {name.lower().replace("__", ".", 1): name for name in variables}
    return Places(by_key, path, variables)


def _variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Those of a known section; all others are none of ours."""
    known = {_variable(key) for key in keys()}
    sections = {name.partition("__")[0] for name in known}
    ours = {name: environ[name] for name in environ if "__" in name and name.partition("__")[0] in sections}
    for name in sorted(ours.keys() - known):
        nearest = _nearest(name.upper(), sorted(known))
        raise SettingsError(f"{name} is not a known variable; the nearest one is {nearest}")
    return ours


def _variable(key: str) -> str:
    """`SECTION__KEY` for `section.key`."""
    return key.upper().replace(".", "__", 1)


def _nearest(name: str, known: Iterable[str]) -> str:
    return difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]


def _problem(
    error: ValidationError, path: Path | None, written: Written, variables: Mapping[str, str]
) -> str:
    """Where the first problem is, what it is, and the fix; of the values, only what their parsers repeat."""
    # An unknown key first: what is missing may only be misspelt.
    first = min(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
    key = ".".join(map(str, first["loc"][:2]))
    if first["type"] == "wrong_together":
        among = [f"{key}.{name}" for name in first["ctx"]["keys"]]
        key = min(among, key=lambda each: (_variable(each) not in variables, not written.is_set(each)))
    here = written.place(path, key)
    where = _variable(key) if _variable(key) in variables else f"{here}: {key}" if path else key
    if first["type"] == "extra_forbidden":
        nearest = _nearest(key.lower(), [*Settings.model_fields, *keys()])
        return f"{here}: {key} is not a known key; the nearest one is {nearest}"
    if first["type"] == "missing":
        here = str(path or "the environment")
        return f"{here}: auth.api_key is not set: set it there or as AUTH__API_KEY; make one with: {NEW_KEY}"
    if first["type"] == "model_type":
        return f"{where} has to hold keys of its own, each `key: value` on a line indented below `{key}:`"
    return f"{where}: {first['ctx']['error']}"
