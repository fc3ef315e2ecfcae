"""Text that a careless page would run, swallow or garble; each may be the name of an account."""

from __future__ import annotations

from proxy.accounts.account import ApiKey
from tests.service import Service, upstream_key

HOSTILE = (
    "<script>hit()</script>",
    "<img src=x onerror=hit()>",
    "<svg onload=hit()>",
    '"><svg/onload=hit()>',
    "'><img src=x onerror=hit()>",
    "<iframe srcdoc='<script>parent.hit()</script>'>",
    "<a href=javascript:hit()>click</a>",
    "<body onload=hit()>",
    "<details open ontoggle=hit()>",
    "<input autofocus onfocus=hit()>",
    "<style>*{display:none}</style>",
    "<base href=//evil.example>",
    "<meta http-equiv=refresh content=0;url=//evil.example>",
    "<form action=//evil.example><button>x",
    "<template><img src=x onerror=hit()></template>",
    "</title><script>hit()</script>",
    "</textarea><script>hit()</script>",
    "</script><script>hit()</script>",
    "--><script>hit()</script>",
    "<![CDATA[<script>hit()</script>]]>",
    "<math><mtext></math><img src=x onerror=hit()>",
    "javascript:hit()",
    "data:text/html,<script>hit()</script>",
    "{{constructor.constructor('hit()')()}}",
    "${hit()}",
    "`${hit()}`",
    "#{hit()}",
    "<%= hit() %>",
    "&lt;b&gt;bold&lt;/b&gt;",
    "&#x3c;script&#x3e;",
    "%3Cscript%3E",
    "\\u003cscript\\u003e",
    "__proto__",
    "constructor",
    "toString",
    "hasOwnProperty",
    "undefined",
    "null",
    "0",
    "[object Object]",
    "{name}",
    "{n} of {text}",
    "$& $1 $` $' $$",
    "%s %d %n",
    "=cmd|'/C calc'!A0",
    "+1+1",
    "-2+3",
    "@SUM(1+1)",
    'she said "no", twice; and, left',
    "../../etc/passwd",
    "?q=x&p=2#/tokens",
    "שלום עולם",
    "مرحبا",
    "Ünïcödé ß ﬁ Ⅷ",
    "🎉👩🏽",
    "\U0001d54f and \u2122",
    "a" * 64,
    "' OR 1=1 --",
)


async def plant(service: Service) -> list[str]:
    """Each of these texts as the name of an account and of a client key, and as a user agent; the keys used."""
    keys = []
    for n, text in enumerate(HOSTILE):
        keys.append(upstream_key(str(n)))
        service.simulator.add_api_key(keys[-1], organization=str(n))
        await service.parts.pool.add(text, ApiKey(keys[-1]))
        await service.parts.keys.add(text)
    for text in HOSTILE:
        answer = await service.message(headers=[("user-agent", as_agent(text))])
        assert answer.status == 200, answer.body
    return keys


def as_agent(text: str) -> str:
    """A header is bytes, and each is shown as a character of Latin-1."""
    return text.encode().decode("latin-1")
