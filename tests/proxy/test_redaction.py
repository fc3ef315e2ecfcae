"""No credential stays in a text, whatever it looks like and wherever it stands."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.redaction import Redaction, redact

KEY = 'an-Admin/key\'of "tests"-7Qd2'
COOKIE = "dQw4w9WgXcQ_-Zq1Yx2Vw3Ut4Sr5Po6Nm7Lk8Ji9Hg0"


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("X-API-Key: my own key\r", "my own"),
        ("bad header X-Api-Key: \rmy-own-key", "my-own"),
        ("headers {'X-API-Key': 'my-own-key', 'Accept': 'x'}", "my-own"),
        ("[('x-api-key', 'my-own-key')]", "my-own"),
        ("[(b'x-api-key', b'my-own-key')]", "my-own"),
        ('["Authorization" , "my-own-key"]', "my-own"),
        ("x-api-key, 'my-own-key'", "my-own"),
        ("x-api-key,my-own-key", "my-own"),
        ("x-api-key,  my-own-key", "my-own"),
        ("X-Api-Key, MYOWN", "MYOWN"),
        ("x-api-key, myown9", "myown9"),
        ("x-api-key, myownmyownmyownmyown", "myown"),
        ("cookie, theme=my-own", "my-own"),
        ("invalid x-api-key, confirmed by x-api-key: my-own-key", "my-own"),
        (r"b'GET / HTTP/1.1\r\nx-api-key: my-own-key\r\n'", "my-own"),
        ('{"authorization": "Digest my-own-\\"key"}', "my-own"),
        ("Authorization: my-own-key", "my-own"),
        ("proxy-authorization=my-own-key", "my-own"),
        ("Authorization: Basic dXNlcjpteS1vd24ta2V5", "dXNlcj"),
        ("got Basic dXNlcjpteS1vd24ta2V5", "dXNlcj"),
        ("Cookie: theme=dark; other=my-own-key", "my-own"),
        ("Set-Cookie: a=my-own-key; Path=/", "my-own"),
        ("claude-proxy=my-own-key; Path=/", "my-own"),
        ("__Host-claude-proxy=my-own-key", "my-own"),
        ("claude-proxy-4000=my-own-key; Path=/", "my-own"),
        (f"cookie of {COOKIE} is old", COOKIE),
        ("Invalid header value 'my-own-key\\r'", "my-own"),
        ("Invalid header name 'my-own-key\"", "my-own"),
        ('Invalid Host header: "my-own-key"', "my-own"),
        ("https://user:my-own-key@proxy.example:8080/x", "my-own"),
        ("https://user:my@own-key@proxy.example/x", "own-key"),
        ("GET /oauth/callback?code=my-own-key&state=other", "my-own"),
        ("POST body code=ac_my-own-key-0123456789#fragment", "my-own"),
        ("code_verifier=abcdefghijklmnopqrstuvwxyz", "abcdefgh"),
        ('{"refresh_token": "abcdefghijklmnopqrst", "n": 1}', "abcdefgh"),
        ("{'access_token': 'abcdefghijklmnopqrst'}", "abcdefgh"),
        ("client_secret=abcdefghijklmnopqrst", "abcdefgh"),
        ("api_key='abcdefghijklmnopqrst'", "abcdefgh"),
        ("sk-ant-api03-abc\x01def", "def"),
        ("sk-ant-api03-abc", "abc"),
        ("v1/sk-ant-api03-abc", "abc"),
        ("cp-abcdefghijklmnopqrst", "abc"),
        ("req_.cp-abcdefghijklmnopqrst", "abc"),
        (f"{COOKIE[:43]}", COOKIE[:20]),
        ("cp-abcdefghij\x85klmnopqrst\x9bxyz", "xyz"),
    ],
    ids=ascii,
)
def test_a_credential_is_known_by_its_form(text: str, secret: str) -> None:
    cleaned = redact(text)
    assert secret not in cleaned and "[redacted]" in cleaned


@pytest.mark.parametrize(
    "text",
    [
        "token deleted token=tok_0123456789abcdef name=zoe",
        "POST /v1/messages 200 request=req_0123456789abcdef01234567 client=::1 key=tok_0123456789abcdef account=a",
        "account state account=acc_0123456789abcdef name=b from=active to=invalid reason=401",
        "session ended session=ses_0123456789abcdef requests_cut=3",
        "GET /v1/messages/batches/msgbatch_013Zva2CMHLNnXjNJJKqJ2EF/results",
        "event loop held lag_ms=90 in=proxy/x.py:8 dumps",
        "changed by somebody else file=/var/lib/claude-proxy/data/accounts/acc_0123456789abcdef.json",
        "refresh failed account=acc_0123456789abcdef again_in_s=30 reason=invalid_grant",
        "account state account=acc_0123456789abcdef name=b from=active to=invalid "
        "reason=401 authentication_error: invalid x-api-key, confirmed by GET /v1/models",
        "neither authorization, nor a cookie, is there",
        "is it so? yes=no",
        "a basic thing",
    ],
)
def test_what_is_no_credential_stays(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize("form", [str, repr, json.dumps, lambda text: quote(text, safe="")])
def test_a_configured_secret_is_known_by_its_value_in_every_notation(form: object) -> None:
    assert callable(form)
    cleaned = Redaction([KEY])(f"it was <{form(KEY)}> indeed")
    assert "7Qd2" not in cleaned and cleaned.endswith("> indeed")


@given(st.integers(1, len(KEY) - 1), st.text(st.sampled_from("\r\n\0\x1b\x85\u2028"), min_size=1))
def test_control_characters_hide_no_configured_secret(at: int, planted: str) -> None:
    cleaned = Redaction([KEY])(f"it was {KEY[:at]}{planted}{KEY[at:]}")
    assert KEY[:at] not in cleaned or KEY[at:] not in cleaned


@given(st.text())
def test_without_secrets_in_the_configuration_the_form_alone_counts(text: str) -> None:
    assert Redaction([])(text) == Redaction([""])(text) == redact(text)
