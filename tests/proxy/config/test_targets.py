"""Targets of notifications in the configuration: what is taken, what is refused, and that nothing shows a secret."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

from proxy.config.effective import effective, lines
from proxy.config.settings import Settings, load_settings
from proxy.config.targets import DeclaredMailbox, DeclaredTarget, secrets_of
from proxy.errors import SettingsError
from proxy.redaction import Redaction
from tests.canaries import leaked
from tests.settings import KEY

PATH = "/services/T024BE7LD/canary-B9x2Qm5Rt7Vw1Zk4"
SIGNATURE = "canary-sig-Yw3Kd8RqPz6Lt"
TOKEN = "tk_canaryTokenOfNtfy7"
PASSWORD = "canary-Mail-password-5"
SECRET = "canary-hook-secret-Mz5Tb1"
MAIL = f"{{kind: email, host: mail.example, from: a@b.example, to: ops@b.example, user: me, password: {PASSWORD}}}"
ALL = f"""
    - {{kind: slack, url: 'https://hooks.example{PATH}'}}
    - {{kind: teams, url: 'https://flow.example/workflows/x?sig={SIGNATURE}&sv=1.0', name: ops}}
    - {{kind: discord, url: 'https://discord.example{PATH}', events: [account.*, pool.exhausted]}}
    - {{kind: ntfy, url: 'https://ntfy.example{PATH}', token: {TOKEN}, quiet: '22:00-07:30', timezone: Europe/Berlin}}
    - {{kind: webhook, url: 'http://127.0.0.1:9/x', secret: {SECRET}, quiet: '01:00-02:00', quiet_errors: true}}
    - {MAIL}
"""
SECRETS = [PATH, SIGNATURE, TOKEN, PASSWORD, SECRET]


def load(tmp_path: Path, targets: str, more: str = "") -> Settings:
    config = tmp_path / "config.yaml"
    config.write_text(f"notifications:\n  targets: {targets}\n{more}")
    return load_settings(config, {"AUTH__API_KEY": KEY})


def declared(tmp_path: Path, targets: str) -> tuple[DeclaredTarget, ...]:
    return load(tmp_path, targets).notifications.targets


def test_each_kind_is_taken_with_what_it_needs(tmp_path: Path) -> None:
    slack, teams, discord, ntfy, webhook, email = declared(tmp_path, ALL)
    assert slack == DeclaredTarget("slack", "slack 1", f"https://hooks.example{PATH}")
    assert (teams.name, teams.url) == ("ops", f"https://flow.example/workflows/x?sig={SIGNATURE}&sv=1.0")
    assert discord.events == ("account.*", "pool.exhausted")
    assert (ntfy.token, ntfy.quiet, ntfy.timezone) == (TOKEN, (22 * 60, 7 * 60 + 30), "Europe/Berlin")
    assert (webhook.secret, webhook.quiet_errors, ntfy.quiet_errors) == (SECRET, True, False)
    box = DeclaredMailbox("mail.example", 587, "starttls", "a@b.example", ("ops@b.example",), "me", PASSWORD)
    assert (email.url, email.mailbox) == ("", box)


@pytest.mark.parametrize(("tls", "port"), [("starttls", 587), ("tls", 465), ("none", 25)])
def test_a_mail_server_has_its_usual_port(tmp_path: Path, tls: str, port: int) -> None:
    text = f"[{{kind: email, host: mail.example, from: a@b.example, to: [c@d.example], tls: {tls}}}]"
    [target] = declared(tmp_path, text)
    assert target.mailbox is not None and (target.mailbox.port, target.mailbox.tls) == (port, tls)


def test_the_webhook_of_two_keys_is_one_target_of_that_kind(tmp_path: Path) -> None:
    url = f"https://hooks.example{PATH}?a=b"
    more = f"  webhook_url: '{url}'\n  secret: {SECRET}\n"
    first, second = load(tmp_path, f"\n    - {MAIL}", more).notifications.all_targets
    assert first == DeclaredTarget("webhook", "webhook_url", url, SECRET)
    assert second.kind == "email"


def test_nothing_shows_a_secret(tmp_path: Path) -> None:
    settings = load(tmp_path, ALL, f"  webhook_url: 'https://a.example/x?key={SIGNATURE}'\n")
    shown = {each.key: each.value for each in effective(settings)}
    assert shown["notifications.targets"] == [
        "slack 1: slack https://hooks.example/***",
        "ops: teams https://flow.example/***",
        "discord 3: discord https://discord.example/***",
        "ntfy 4: ntfy https://ntfy.example/***",
        "webhook 5: webhook http://127.0.0.1:9/***",
        "email 6: email mail.example",
    ]
    assert shown["notifications.webhook_url"] == "https://a.example/***"
    everything = f"{settings!r} {settings.notifications.all_targets!r}" + "\n".join(lines(settings))
    assert leaked(everything, SECRETS) == []


def test_the_log_knows_each_secret_and_each_url(tmp_path: Path) -> None:
    settings = load(tmp_path, ALL)
    redact = Redaction(settings.secrets())
    for target in settings.notifications.targets:
        assert target.url == "" or target.url not in redact(f"cannot reach {target.url} now")
    for secret in SECRETS:
        assert secret not in redact(f"they said {secret} and more")


def test_a_short_path_is_not_taken_out_of_all_that_is_logged() -> None:
    assert secrets_of("http://127.0.0.1:9/hook") == ["http://127.0.0.1:9/hook"]
    assert secrets_of("https://a.example/x?sig=0123456789abcdef&v=1") == [
        "https://a.example/x?sig=0123456789abcdef&v=1",
        "/x?sig=0123456789abcdef&v=1",
        "0123456789abcdef",
    ]


URL = "url: 'https://a.example/x'"
EMAIL = "kind: email, host: a.example, from: a@b.example, to: c@d.example"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("SECRETSECRET", "it has to be a list of up to 20"),
        ("{kind: slack}", "it has to be a list of up to 20"),
        (str([f"{{kind: slack, {URL}}}"] * 21).replace('"', ""), "it has to be a list of up to 20"),
        ("[SECRETSECRET]", "number 1 has to hold keys of its own"),
        ("[{}]", "number 1 needs a kind: slack, discord"),
        ("[{kind: SECRET}]", "number 1 needs a kind"),
        ("[{kind: [slack]}]", "number 1 needs a kind"),
        ("[{kind: slack}]", "number 1 needs url"),
        (
            f"[{{kind: slack, {URL}, ulr: SECRET}}]",
            "number 1 has what slack does not know; the nearest key is url",
        ),
        (f"[{{kind: slack, {URL}, secret: SECRETSECRETSECRET}}]", "number 1 has what slack does not know"),
        ("[{kind: slack, url: 'http://a.example/SECRET'}]", "number 1 needs url: use an https:// URL"),
        ("[{kind: slack, url: 'https://me:SECRET@a.example/x'}]", "number 1 needs url: use an https:// URL"),
        ("[{kind: slack, url: 'https://a.example/x#SECRET'}]", "number 1 needs url: use an https:// URL"),
        ("[{kind: slack, url: 'https://a.example/x?SECRET y'}]", "number 1 needs url: use an https:// URL"),
        (f"[{{kind: webhook, {URL}, secret: SECRET}}]", "number 1 needs as secret 16 characters"),
        (f"[{{kind: ntfy, {URL}, token: 'SECRET x'}}]", "number 1 needs as token ASCII"),
        (f"[{{kind: slack, {URL}, events: account.invalid}}]", "number 1 needs as events a list"),
        (f"[{{kind: slack, {URL}, events: ['[a']}}]", "number 1 needs as events a list"),
        (
            f"[{{kind: slack, {URL}, events: [account.*, account.invaild]}}]",
            "number 1 has in events what is no kind of event; the nearest one is account.invalid",
        ),
        (f"[{{kind: slack, {URL}, events: [foo.bar]}}]", "number 1 has in events what is no kind of event"),
        (f"[{{kind: slack, {URL}, events: ['acount.*']}}]", "number 1 has in events what is no kind"),
        (f"[{{kind: slack, {URL}, events: [account]}}]", "number 1 has in events what is no kind of event"),
        (f"[{{kind: slack, {URL}, quiet: 22-7}}]", "number 1 needs as quiet two times"),
        (f"[{{kind: slack, {URL}, quiet: '24:00-07:00'}}]", "number 1 needs as quiet two times"),
        (f"[{{kind: slack, {URL}, quiet: '07:00-07:00'}}]", "number 1 needs as quiet two times"),
        (f"[{{kind: slack, {URL}, timezone: Mars/Base}}]", "number 1 needs as timezone a name"),
        (f"[{{kind: slack, {URL}, timezone: ../../etc/passwd}}]", "number 1 needs as timezone a name"),
        (f"[{{kind: slack, {URL}, quiet_errors: maybe}}]", "number 1 needs as quiet_errors true or false"),
        (f'[{{kind: slack, {URL}, name: "a\\nb"}}]', "number 1 needs as name one line"),
        (
            f"[{{kind: slack, {URL}, name: a}}, {{kind: ntfy, {URL}, name: a}}]",
            "number 2 has the name of another",
        ),
        ("[{kind: email, from: a@b.example, to: c@d.example}]", "number 1 needs host"),
        ("[{kind: email, host: a.example, to: c@d.example}]", "number 1 needs from"),
        ("[{kind: email, host: a.example, from: a@b.example}]", "number 1 needs as to"),
        (f"[{{{EMAIL}, {URL}}}]", "number 1 has what email does not know"),
        (f"[{{{EMAIL}, tls: ssl}}]", "number 1 needs as tls starttls"),
        (f"[{{{EMAIL}, port: 0}}]", "number 1 needs as port"),
        (f"[{{{EMAIL}, user: me}}]", "number 1 needs user and password"),
        (f"[{{{EMAIL}, user: me, password: SECRET, tls: none}}]", "number 1 needs tls other than none"),
        ("[{kind: email, host: 'a b', from: a@b.example, to: c@d.example}]", "number 1 needs as host"),
        (
            "[{kind: email, host: a.example, from: 'A <a@b.example>', to: c@d.example}]",
            "number 1 needs as from",
        ),
        (
            '[{kind: email, host: a.example, from: a@b.example, to: ["c@d.example\\nBcc: x@y.z"]}]',
            "number 1 needs as to",
        ),
    ],
)
def test_a_bad_target_is_refused_with_its_place_and_without_a_secret(
    tmp_path: Path, text: str, problem: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        declared(tmp_path, text)
    config = tmp_path / "config.yaml"
    assert str(caught.value).startswith(f"{config}, line 2: notifications.targets: {problem}")
    assert "SECRET" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "event", ["*", "account.*", "*.invalid", "account.refresh_*", "*audit*", "toke?.added"]
)
def test_a_pattern_that_fits_some_kind_of_event_is_taken(tmp_path: Path, event: str) -> None:
    assert declared(tmp_path, f"[{{kind: slack, {URL}, events: ['{event}']}}]")


def test_a_variable_holds_them_as_json() -> None:
    slack = f'{{"kind": "slack", "url": "https://hooks.example{PATH}", "quiet_errors": true}}'
    mail = '{"kind": "email", "host": "a.example", "port": 26, "from": "a@b.example", "to": ["c@d.example"]}'
    settings = load_settings(None, {"AUTH__API_KEY": KEY, "NOTIFICATIONS__TARGETS": f"[{slack}, {mail}]"})
    first, second = settings.notifications.targets
    assert first == DeclaredTarget("slack", "slack 1", f"https://hooks.example{PATH}", quiet_errors=True)
    assert second.mailbox is not None and second.mailbox.port == 26


def test_a_variable_that_holds_something_else_is_told_what_it_has_to_be() -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(None, {"AUTH__API_KEY": KEY, "NOTIFICATIONS__TARGETS": f"https://hooks.example{PATH}"})
    assert str(caught.value).startswith(
        "NOTIFICATIONS__TARGETS: it has to be a list of up to 20, in a variable as JSON, each with a kind"
    )
    assert PATH not in "".join(traceback.format_exception(caught.value))


def test_a_mail_server_of_this_machine_may_have_a_password_without_tls(tmp_path: Path) -> None:
    text = "[{kind: email, host: 127.0.0.1, from: a@b.example, to: c@d.example, tls: none, user: u, password: p}]"
    assert declared(tmp_path, text)
