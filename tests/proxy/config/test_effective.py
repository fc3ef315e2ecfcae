"""The effective configuration: what is shown of each key could be set again, and no secret is shown."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from proxy.config.effective import MASK, effective, lines
from proxy.config.settings import Settings, keys, load_settings
from proxy.errors import SettingsError
from tests.canaries import leaked
from tests.settings import KEY, load

ADMIN = "canary-Admin-key-Yw3Kd8Rq"
CLIENT = "cp-canary-Ue5Ri8To2Pa7Sd4Fg9Hj1Kl3Zx6Cv0BnQw3"
SECRET = "canary-webhook-secret-Mz5Tb1"
PATH = "T024BE7LD/canary-B9x2Qm5Rt7Vw1Zk4"
PASSWORD = "canary-pass-Xp4Jc9"
KEYS = [base64.b64encode(bytes(range(first, first + 32))).decode() for first in (1, 101, 151)]
SECRETS = [ADMIN, CLIENT, SECRET, PATH, PASSWORD, *KEYS]


def shown(settings: Settings) -> dict[str, tuple[object, str | None]]:
    return {each.key: (each.value, each.place) for each in effective(settings)}


def test_every_key_is_shown_in_the_order_of_the_documentation() -> None:
    assert [each.key for each in effective(load())] == keys()


def test_what_is_shown_of_a_key_sets_it_to_the_same(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(Path("/etc/ssl/certs/ca-certificates.crt").read_bytes())
    written = {
        "SERVER__TRUSTED_PROXIES": "10.0.0.0/8,::1",
        "SERVER__ANSWER_TIMEOUT": "90",
        "SERVER__MAX_BODY_SIZE": "1234567",
        "SERVER__DRAIN_TIMEOUT": "0",
        "SERVER__CORS_ORIGINS": "*",
        "CLAUDE__CA_FILE": str(tmp_path / "ca.pem"),
        "RETRY__JITTER_MAX": "1.2345s",
        "RETRY__BASE_DELAY": "36h",
        "RETRY__MAX_DELAY": "2d",
        "SESSION__ENABLED": "false",
        "OAUTH__CLIENT_ID": "of tests",
    }
    in_effect = {"SERVER__ANSWER_TIMEOUT": "10m"}  # twice the default of request_timeout
    for settings, same in ((load(), load(**in_effect)), (load(**written), load(**written))):
        again = {
            key.upper().replace(".", "__"): ",".join(value) if isinstance(value, list) else str(value)
            for key, (value, _) in shown(settings).items()
            if value not in (None, MASK, [])
        }
        assert load(**again) == same


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("SERVER__REQUEST_TIMEOUT", "300s", "5m"),
        ("RETRY__JITTER_MAX", "0.5", "500ms"),
        ("SERVER__MAX_BODY_SIZE", "64KiB", "64KiB"),
        ("NOTIFICATIONS__WEBHOOK_URL", f"https://hooks.example/{PATH}", f"https://hooks.example/{MASK}"),
        ("CLAUDE__PROXY", f"http://me:{PASSWORD}@proxy.lan:3128", "http://***@proxy.lan:3128"),
    ],
)
def test_a_value_is_shown_as_people_write_it(variable: str, value: str, told: str) -> None:
    settings = load(**{variable: value})
    assert shown(settings)[variable.lower().replace("__", ".", 1)] == (told, variable)


def test_no_secret_is_shown(tmp_path: Path) -> None:
    key_file = tmp_path / "old"
    key_file.write_text(KEYS[2])
    config = tmp_path / "config.yaml"
    config.write_text(
        f"auth:\n  api_key: {ADMIN}\n  client_keys:\n    - {{name: laptop, key: {CLIENT}}}\n"
        f"claude: {{proxy: 'socks5h://me:{PASSWORD}@proxy.lan:1080'}}\n"
        f"storage: {{encryption_key: {KEYS[0]}, encryption_key_old: [{KEYS[1]}], "
        f"encryption_key_old_file: {key_file}}}\n"
        f"notifications: {{webhook_url: 'https://hooks.example/{PATH}', secret: {SECRET}}}\n"
    )
    settings = load_settings(config, {})
    found = shown(settings)
    assert [found[key][0] for key in ("auth.api_key", "storage.encryption_key", "notifications.secret")] == [
        MASK
    ] * 3
    assert found["auth.client_keys"] == (["laptop"], f"{config}, line 3")
    assert leaked(repr(found) + "\n".join(lines(settings)), SECRETS) == []


def test_each_key_says_where_it_is_set(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(
        f"auth:\n  api_key: {KEY}\nserver:\n\n  port: 1\n  host: localhost\nlogger: {{level: }}\n"
    )
    found = shown(load_settings(config, {"SERVER__PORT": "2"}))
    assert found["server.port"] == (2, "SERVER__PORT")
    assert found["server.host"] == ("localhost", f"{config}, line 6")
    assert found["logger.level"] == ("info", None)
    assert found["auth.api_key"] == (MASK, f"{config}, line 2")


def test_the_url_of_a_shared_store_is_shown_without_its_password() -> None:
    settings = load(STORAGE__URL=f"redis://me:{PASSWORD}@store:7000/1")
    assert shown(settings)["storage.url"] == ("redis://store:7000/1", "STORAGE__URL")
    assert not leaked("\n".join(lines(settings)), [PASSWORD])
    assert PASSWORD in settings.secrets()
    assert PASSWORD not in repr(settings)


def test_a_url_of_a_shared_store_that_will_not_do_is_refused_with_the_fix_and_not_repeated() -> None:
    with pytest.raises(SettingsError, match=r"STORAGE__URL: use redis://host") as told:
        load(STORAGE__URL=f"http://me:{PASSWORD}@store")
    assert not leaked(str(told.value), [PASSWORD])
