"""The description of the admin API (OpenAPI 3.1), made of the application's routes and of what OPERATIONS says."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec
from tornado.routing import URLSpec
from tornado.web import Application, RequestHandler

from handlers.answers import Error
from handlers.base import AdminHandler
from handlers.operations import JSON, OPERATIONS, Operation
from proxy import __version__

Schema: TypeAlias = dict[str, Any]

TOLD: Final = (
    "Everything that the dashboard does. Errors have the shape of `Error`. Times are RFC 3339 in UTC. What changes "
    "something is on disk before the answer; it is in the audit log too, or the answer has a `warning`."
)
SECURITY: Final[Mapping[str, Schema]] = {
    "admin_key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "bearer": {"type": "http", "scheme": "bearer"},
    "sign_in": {
        "type": "apiKey",
        "in": "cookie",
        "name": "claude-proxy",
        "description": "By https `__Host-` stands before the name, and a port that is not the scheme's own after it.",
    },
}
ERRORS: Final[Mapping[int, str]] = {
    400: "The request is malformed.",
    401: "The key or the sign-in is not valid.",
    403: "The caller may not do this.",
    404: "There is no such thing.",
    409: "It is not possible as things are, or another admin has changed it meanwhile.",
    413: "The body is too large.",
    414: "The target is too long.",
    422: "A field or an argument is wrong; the message names it.",
    429: "Too many wrong keys came from this address.",
    502: "The upstream or the OAuth server cannot be reached, or refuses.",
    503: "It could not be saved, or the proxy drains.",
}
METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
REFERENCE: Final = "#/components/schemas/"


class _Method(NamedTuple):
    """A method of a route, and what is known of it."""

    rule: URLSpec
    name: str
    operation: Operation

    @property
    def is_for_admins(self) -> bool:
        return issubclass(self.rule.target, AdminHandler)


@lru_cache(maxsize=1)  # made when it is first asked for: it takes some 20 ms
def described(application: Application) -> Schema:
    """The description of all routes. Raises KeyError if OPERATIONS lacks one."""
    rules = [rule for rule in application.wildcard_router.rules if isinstance(rule, URLSpec)]
    methods = [method for rule in rules for method in _methods(rule)]
    shapes = _Shapes([method.operation for method in methods])
    paths: dict[str, Schema] = {}
    for method in methods:
        paths.setdefault(_path(method.rule), {})[method.name.lower()] = _described(method, shapes)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Claude Proxy: admin API", "version": __version__, "description": TOLD},
        "servers": [{"url": ".."}],
        "paths": paths,
        "components": {"securitySchemes": dict(SECURITY), "schemas": shapes.schemas},
    }


class _Shapes:
    """The schemas of all bodies and answers by name, and how each type is referred to."""

    def __init__(self, operations: list[Operation]) -> None:
        from pydantic.json_schema import models_json_schema  # it takes some 30 ms

        bodies = list(dict.fromkeys(model for each in operations for model in each.body))
        answers = list(
            dict.fromkeys(
                [Error, *(t for each in operations for t in (each.answer, *dict(each.also).values()) if t)]
            )
        )
        taken, definitions = models_json_schema(
            [(model, "validation") for model in bodies], ref_template=f"{REFERENCE}{{model}}"
        )
        given, components = msgspec.json.schema_components(answers, ref_template=f"{REFERENCE}{{name}}")
        doubled = components.keys() & definitions["$defs"].keys()
        if doubled:
            raise KeyError(f"a body and an answer are both called {', '.join(sorted(doubled))}")
        self.schemas = {**components, **definitions["$defs"]}
        self._of: dict[type, Schema] = {model: taken[model, "validation"] for model in bodies}
        self._of |= dict(zip(answers, given, strict=True))

    def __getitem__(self, shape: type) -> Schema:
        return self._of[shape]


def _methods(rule: URLSpec) -> Iterator[_Method]:
    """What the handler does. HEAD is GET without a body, if it is the same method."""
    handler = rule.target
    for name in METHODS:
        own = getattr(handler, name.lower())
        if own is not getattr(RequestHandler, name.lower()):
            known = OPERATIONS[handler]
            yield _Method(rule, name, known["GET" if name == "HEAD" and own is handler.get else name])


def _path(rule: URLSpec) -> str:
    """The path with the names of its groups in braces, which `reverse` would percent-encode."""
    names = _names(rule)
    marks = [f"mark-{number}" for number in range(len(names))]
    path = rule.reverse(*marks) or ""
    for mark, name in zip(marks, names, strict=True):
        path = path.replace(mark, f"{{{name}}}")
    return path


def _names(rule: URLSpec) -> list[str]:
    """The names of the groups in the path: those of the handler's own parameters."""
    own = next(method.name for method in _methods(rule))
    parameters = list(inspect.signature(getattr(rule.target, own.lower())).parameters)
    return parameters[1 : rule.regex.groups + 1]


def _described(method: _Method, shapes: _Shapes) -> Schema:
    operation = method.operation
    told: Schema = {
        "summary": operation.told,
        "operationId": f"{method.name.lower()}_{method.rule.target.__name__}",
        "parameters": [*_parameters(method)],
        "responses": _responses(method, shapes),
        "security": [{name: []} for name in SECURITY] if method.is_for_admins else [],
    }
    if method.is_for_admins:
        told["x-roles"] = [role.value for role in method.rule.target.roles]
    if operation.body:
        content = [shapes[model] for model in operation.body]
        schema = content[0] if len(content) == 1 else {"anyOf": content}
        told["requestBody"] = {"required": not operation.optional, "content": {JSON: {"schema": schema}}}
    return told


def _parameters(method: _Method) -> Iterator[Schema]:
    for name in _names(method.rule):
        yield {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
    for each in method.operation.query:
        said = {"description": each.told} if each.told else {}
        yield {"name": each.name, "in": "query", "schema": each.schema} | said
    if method.operation.if_match:
        said = {
            "description": "the etag of the state that is to be changed, in quotes; 409 if it is another by now"
        }
        yield {"name": "If-Match", "in": "header", "schema": {"type": "string"}} | said


def _responses(method: _Method, shapes: _Shapes) -> Schema:
    operation = method.operation
    answers = {operation.status: operation.answer} | dict(operation.also)
    responses: Schema = {}
    for status, shape in answers.items():
        types = () if method.name == "HEAD" else operation.types
        content = {each: {"schema": shapes[shape]} if shape and each == JSON else {} for each in types}
        responses[str(status)] = {"description": "It is done."} | ({"content": content} if content else {})
    shown: Schema = {each: {} for each in operation.types if operation.shows_errors}
    for status in sorted(_errors(method) - answers.keys()):
        kinds = {} if method.name == "HEAD" else {"content": shown | {JSON: {"schema": shapes[Error]}}}
        responses[str(status)] = {"description": ERRORS[status]} | kinds
    return responses


def _errors(method: _Method) -> set[int]:
    """The statuses of errors: those of its sort, and its own."""
    operation, found = method.operation, {400, *method.operation.errors}
    if method.is_for_admins:
        found |= {401, 403, 429}
        if method.name not in ("GET", "HEAD"):
            found |= {503}
    if operation.body:
        found |= {413, 422, 503}
    if operation.query:
        found |= {422}
    return found | {404} if method.rule.regex.groups else found
