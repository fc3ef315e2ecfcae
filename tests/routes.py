"""The routes of the admin API by the application's own rules, so that none is forgotten."""

from __future__ import annotations

import inspect

from tornado.routing import URLSpec
from tornado.web import RequestHandler

from handlers.routes import application

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def rules() -> list[URLSpec]:
    """The application's routes; which parts they work with does not matter here."""
    made = application(**dict.fromkeys(inspect.signature(application).parameters))
    return [rule for rule in made.wildcard_router.rules if isinstance(rule, URLSpec)]


def path_of(rule: URLSpec) -> str:
    """A path that the rule matches."""
    return rule.reverse(*["nobody"] * rule.regex.groups)


def methods_of(rule: URLSpec) -> list[str]:
    """The methods that its handler implements."""
    return [
        method
        for method in METHODS
        if getattr(rule.target, method.lower()) is not getattr(RequestHandler, method.lower())
    ]


ROUTES = [(method, path_of(rule)) for rule in rules() for method in methods_of(rule)]
"""Every method that a route implements, with a path that it matches."""
