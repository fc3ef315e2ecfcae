"""What a browser shows of the simulated OAuth server."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping

from .replies import Answer, Headers

NO_STORE: Headers = (("cache-control", "no-store"),)
_STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; accent-color: #a04100 }
body { max-width: 26rem; margin: 8vh auto; padding: 0 1.5rem }
h1 { font-size: 1.5rem; margin-bottom: .25rem }
fieldset { border: 1px solid #8886; border-radius: .5rem; padding: .75rem 1rem; margin: 1.25rem 0 }
label { display: block; padding: .25rem 0 }
button { font: inherit; padding: .5rem 1rem; margin: 0 .5rem .5rem 0; border: 1px solid #8888; border-radius: .5rem }
button:first-of-type { background: #a04100; border-color: #a04100; color: #fff }
code { display: block; padding: 1rem; border: 1px solid #8886; border-radius: .5rem; overflow-wrap: anywhere;
  user-select: all }
"""


def choice(query: Mapping[str, str], organizations: Iterable[str]) -> Answer:
    """Who asks for consent is answered with what is chosen here: `auto`, and `paste` or `cancel`."""
    asked = "".join(
        f'<input type="hidden" name="{_text(name)}" value="{_text(value)}">' for name, value in query.items()
    )
    labels = "".join(
        f'<label><input type="radio" name="auto" value="{_text(name)}"{"" if number else " checked"}> '
        f"{_text(name)}</label>"
        for number, name in enumerate(organizations)
    )
    return page(
        "Simulated Claude login",
        "<p>An application asks to use Claude in your name.</p>"
        f"<form>{asked}<fieldset><legend>Organisation</legend>{labels}</fieldset>"
        "<button>Authorise</button>"
        '<button name="paste" value="1">Authorise, and show a code to paste</button>'
        '<button name="cancel" value="1">Cancel</button></form>',
    )


def code(shown: str) -> Answer:
    """For whoever the browser cannot go back to."""
    return page("Authorised", f"<p>Paste this code where you came from:</p><code>{_text(shown)}</code>")


def refusal(title: str, why: str, status: int = 200) -> Answer:
    return page(title, f"<p>{_text(why)}</p>", status)


def page(title: str, body: str, status: int = 200) -> Answer:
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{title}</title><style>{_STYLE}</style>"
    )
    text = f'<!doctype html><html lang="en">{head}<h1>{title}</h1>{body}</html>'
    return Answer(status, (("content-type", "text/html; charset=utf-8"), *NO_STORE), text.encode())


_text = html.escape
