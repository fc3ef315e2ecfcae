"""What each route of the table takes and answers: the admin API's description is made of it, see `openapi`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, TypeAlias, get_args

from tornado.web import RequestHandler

from handlers import (
    accounts,
    answers,
    api,
    auth,
    events,
    explain,
    findings,
    health,
    instances,
    keys,
    live,
    metrics,
    oauth,
    pages,
    requests,
    sessions,
    settings,
    statistics,
    usage_chart,
)
from handlers.base import RequestBody
from proxy.accounts.quota_history import Range
from proxy.clients.keys import KeyStatus, Role
from proxy.usage.buckets import By
from proxy.usage.failed_tries import FAILURES
from proxy.usage.request_log import ANY
from proxy.usage.series import RINGS
from proxy.usage.spans import Interval

Schema: TypeAlias = dict[str, Any]

JSON: Final = "application/json"
HTML: Final = "text/html"
TEXT: Final[Schema] = {"type": "string"}
EMPTY: Final[Schema] = {"type": "string", "title": "empty", "pattern": "^[\\s\\u0000-\\u001f\\u0085]*$"}
"""Space around an argument is left out; Tornado takes control characters for space."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """An argument of a query. One that is absent or empty has its default."""

    name: str
    schema: Schema
    told: str = ""


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of a route.

    `answer` is the shape of an answer with `status`, and `also` those of further ones; None if it is no JSON: then
    `types` says what it is. `errors` are statuses beside those that each route of its sort has; with `shows_errors`
    they may have one of the `types` too. `body` may be several, of which one is sent; it may be left out if it is
    `optional`. `if_match`: the header names the state to be changed.
    """

    told: str
    answer: type | None = None
    status: int = 200
    also: tuple[tuple[int, type], ...] = ()
    types: tuple[str, ...] = (JSON,)
    body: tuple[type[RequestBody], ...] = ()
    optional: bool = False
    query: tuple[Parameter, ...] = ()
    errors: tuple[int, ...] = ()
    if_match: bool = False
    shows_errors: bool = False


def _one_of(name: str, *values: str, told: str = "") -> Parameter:
    return Parameter(name, {"anyOf": [{"type": "string", "enum": list(values)}, EMPTY]}, told)


def _number(name: str, most: int, told: str = "") -> Parameter:
    return Parameter(name, {"anyOf": [{"type": "integer", "minimum": 1, "maximum": most}, EMPTY]}, told)


def _texts(*names: str) -> tuple[Parameter, ...]:
    return tuple(Parameter(name, TEXT) for name in names)


def _times(*names: str) -> tuple[Parameter, ...]:
    forms = [{"type": "string", "format": form} for form in ("date-time", "date")]
    return tuple(Parameter(name, {"anyOf": [*forms, EMPTY]}) for name in names)


_BY: Final[tuple[str, ...]] = get_args(By)
_PAIRS: Final = tuple(f"{a},{b}" for a in _BY for b in _BY if a != b)

OPERATIONS: Final[Mapping[type[RequestHandler], Mapping[str, Operation]]] = MappingProxyType(
    {
        pages.Page: {
            "GET": Operation("The dashboard", types=(HTML, "text/plain"), errors=(403,)),
            "HEAD": Operation("Clients of the API probe the root when they start", types=()),
        },
        pages.File: {"GET": Operation("A file of the dashboard", types=("*/*",), errors=(403, 404))},
        health.Alive: {"GET": Operation("Whether the process lives, and its accounts serve", answers.Alive)},
        health.Ready: {
            "GET": Operation("503 while it drains", answers.State, also=((503, answers.State),)),
        },
        health.Usable: {
            "GET": Operation("503 if no account is usable", answers.State, also=((503, answers.State),)),
        },
        health.Hello: {"HEAD": Operation("Clients of the API probe it when they start", types=())},
        metrics.Scrape: {
            "GET": Operation("Metrics for Prometheus", types=("text/plain", "application/openmetrics-text"))
        },
        auth.Login: {
            "POST": Operation(
                "Exchange an admin's key for a cookie",
                answers.SignedIn,
                body=(auth.GivenKey,),
                errors=(401, 403, 429, 503),
            )
        },
        auth.Logout: {"POST": Operation("End the caller's sign-in", answers.SignedIn)},
        auth.Me: {"GET": Operation("Whether the caller is signed in, and until when", answers.SignedIn)},
        oauth.Authorize: {
            "GET": Operation(
                "Begin an OAuth login",
                answers.Login,
                query=_texts("name", "org_id", "account_id"),
                errors=(404, 409),
            )
        },
        oauth.Callback: {
            "GET": Operation(
                "Where the OAuth server sends the browser back; its state authorises it",
                types=(HTML,),
                query=_texts("code", "state", "error"),
                errors=(403, 404, 409, 422, 502, 503),
                shows_errors=True,
            )
        },
        oauth.Exchange: {
            "POST": Operation(
                "End an OAuth login with a pasted code",
                answers.OneAccount,
                status=201,
                body=(oauth.PastedCode,),
                errors=(404, 409, 502),
            )
        },
        oauth.Reauthorize: {
            "POST": Operation(
                "Give an account the tokens of a new login",
                answers.OneAccount,
                body=(oauth.PastedCode,),
                errors=(409, 502),
            )
        },
        accounts.Accounts: {
            "GET": Operation("All accounts", answers.Accounts),
            "POST": Operation(
                "Add an account: a Console API key, or an OAuth login by its code",
                answers.OneAccount,
                status=201,
                body=(accounts.NewApiKeyAccount, accounts.NewAccount),
                errors=(404, 409, 502),
            ),
        },
        accounts.OneAccount: {
            "GET": Operation("One account", answers.OneAccount),
            "PUT": Operation(
                "Change what is given of an account",
                answers.OneAccount,
                body=(accounts.AccountChange,),
                errors=(409, 502),
                if_match=True,
            ),
            "DELETE": Operation("Delete an account and its credential", answers.OneAccount),
        },
        accounts.Test: {"POST": Operation("Ask the API with an account's credential", answers.Tested)},
        accounts.QuotaPoints: {
            "GET": Operation(
                "An account's quota over time",
                answers.QuotaPoints,
                query=(_one_of("range", *get_args(Range)),),
            )
        },
        accounts.Refresh: {
            "POST": Operation("Refresh an account's token now", answers.OneAccount, errors=(422, 502))
        },
        keys.TokenList: {
            "GET": Operation(
                "Client keys, masked",
                answers.Tokens,
                query=(
                    _one_of("role", *Role),
                    _one_of("status", *KeyStatus),
                    *_texts("search"),
                    _number("page", 10**6),
                    _number("limit", keys.MAX_LIMIT),
                ),
            ),
            "POST": Operation(
                "Make a client key, which is shown this once",
                answers.OneToken,
                status=201,
                body=(keys.NewToken,),
                errors=(409,),
            ),
        },
        keys.OneToken: {
            "GET": Operation("One client key, masked", answers.OneToken),
            "PUT": Operation(
                "Change what is given of a client key",
                answers.OneToken,
                body=(keys.TokenChange,),
                errors=(409,),
                if_match=True,
            ),
            "DELETE": Operation("Delete a client key", answers.OneToken, errors=(409,)),
        },
        keys.Rotate: {
            "POST": Operation(
                "Replace a client key, whose former one works on for a while",
                answers.OneToken,
                body=(keys.Overlap,),
                optional=True,
                errors=(409,),
                if_match=True,
            )
        },
        keys.FormerKeys: {
            "DELETE": Operation("End the former keys of a client key now", answers.OneToken, errors=(409,))
        },
        sessions.SessionList: {"GET": Operation("All sessions", answers.Sessions)},
        sessions.OneSession: {"DELETE": Operation("End a session and its requests", answers.OneSession)},
        statistics.Statistics: {"GET": Operation("What the proxy does as a whole", answers.Statistics)},
        statistics.Usage: {
            "GET": Operation(
                "Usage of a span of time",
                answers.Usage,
                types=(JSON, "text/csv"),
                query=(
                    *_times("from", "to"),
                    _one_of("by", *_BY, *_PAIRS),
                    _one_of("interval", *get_args(Interval)),
                    _one_of("format", "json", "csv"),
                    *_texts(*_BY),
                ),
            )
        },
        usage_chart.UsageChart: {
            "GET": Operation(
                "Usage over time, as charts show it",
                answers.Chart,
                query=(
                    _one_of("range", *RINGS, told="ends now; from and to are for any other time"),
                    *_times("from", "to"),
                    _one_of("by", *_BY),
                    *_texts("id"),
                ),
            )
        },
        explain.Explain: {
            "POST": Operation(
                "Which account a request would get, and why; it is not sent",
                answers.Explanation,
                body=(explain.Question,),
                errors=(404, 414),
            )
        },
        requests.RequestList: {
            "GET": Operation(
                "The last requests",
                answers.Requests,
                query=(
                    *_texts("key", "account", "session", "model"),
                    Parameter(
                        "status", TEXT, f"a number, a class as 4xx, or one of {', '.join(requests.NAMES)}"
                    ),
                    _number("slow", requests.LONGEST_MS, "least time to the first byte, in milliseconds"),
                    _one_of("retried", "true", "false"),
                    _one_of("failure", *FAILURES, ANY),
                    *_texts("search"),
                    *_times("from", "to"),
                    _number("before", requests.MOST_NUMBER),
                    _number("limit", requests.MOST_LIMIT),
                ),
            )
        },
        requests.OneRequest: {"GET": Operation("One of the last requests", answers.OneRequest)},
        instances.InstanceList: {"GET": Operation("The instances that share a store", answers.Instances)},
        findings.FindingList: {
            "GET": Operation("What starts have found damaged or missing", answers.Findings),
            "DELETE": Operation("Say that all of it was seen", answers.Findings, errors=(404,)),
        },
        settings.Configuration: {
            "GET": Operation("What runs here, and its configuration", answers.Configuration)
        },
        settings.ReadAgain: {
            "POST": Operation("Read the configuration again", answers.Reloaded, errors=(422,))
        },
        settings.TestNotification: {
            "POST": Operation("Send a test notification", answers.Deliveries, errors=(422,))
        },
        settings.Export: {
            "POST": Operation("Accounts in an encrypted file", answers.Export, body=(settings.ExportRequest,))
        },
        settings.Import: {
            "POST": Operation(
                "Take the accounts of such a file that are not here yet",
                answers.Imported,
                body=(settings.ImportRequest,),
                errors=(409,),
            )
        },
        events.EventList: {
            "GET": Operation(
                "What happened, and who did it",
                answers.Events,
                query=(
                    *_texts("kind", "actor", "subject"),
                    _number("before", events.LAST_ID),
                    _number("limit", events.MAX_LIMIT),
                ),
            )
        },
        live.Feed: {
            "GET": Operation(
                "The dashboard's feed: a WebSocket, or what is new for one that polls",
                answers.Frames,
                query=_texts("epoch", "topics"),
            )
        },
        api.Description: {"GET": Operation("This description", dict)},
        api.Docs: {"GET": Operation("This description as a page", types=(HTML,))},
    }
)
