"""The kinds of values that options have, and how each is read from the text of a file or a variable.

A parser takes whatever was written: text, a list or a mapping. Its error is what the operator reads, so it
says the fix, and repeats the value only where that cannot be a secret.
"""

from __future__ import annotations

import base64
import ipaddress
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated
from urllib.parse import SplitResult, urlsplit

from pydantic import BeforeValidator, PlainValidator, SecretBytes, SecretStr, WithJsonSchema

from proxy.http.certificates import unusable
from proxy.http.outbound import proxy_url
from proxy.storage.address import StoreAddress

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

SECOND, MINUTE, HOUR, DAY = 1.0, 60.0, 3600.0, 86400.0
LONGEST = 365 * DAY  # beyond any use, and far from where timers overflow
DURATIONS = {"ms": 0.001, "s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY, None: SECOND}
SIZES = {"KB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30, None: 1.0}

# No leading zero: YAML 1.1 reads 010 as eight. No colon: it reads 1:30 as ninety.
NUMBER = r"(?:0|[1-9][0-9]{0,14})"
HOSTNAME = r"(?=.{1,253}$)(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?(?:\.(?!$)|$))+"  # RFC 1123 §2.1

NEW_ENCRYPTION_KEY = "openssl rand -base64 32"
ENCRYPTION_KEY = re.compile(
    "[0-9A-Fa-f]{64}|[A-Za-z0-9+/]{43}=?|[A-Za-z0-9_-]{43}=?"
)  # 32 bytes, for AES-256
MAX_KEY_FILE_BYTES = 65_536
NEW_KEY = 'python3 -c "import secrets; print(secrets.token_urlsafe(32))"'
# What begins like a path, and is not as long and mixed as a key in base64, which may begin with a slash.
PATH = re.compile(r"(?!(?=.*[a-z])(?=.*[A-Z])(?=.*[0-9])[A-Za-z0-9+/=]{16,}$)(?:~|\.{1,2})?/")
# Whole keys as documentation and examples show them, in lower case and without punctuation.
SAMPLE = re.compile(
    "(?:please)?(?:change|replace)(?:me|this).*|(?:put)?your(?:secret|admin|api|own|proxy|key).*"
    "|(?:0?123456789|1234567890)+0?(?:abcdef)?|skant.*"
)


def _refused(value: object, fix: str) -> ValueError:
    shown = repr(value)
    return ValueError(f"{shown if len(shown) <= 60 else shown[:60] + '…'} will not do: {fix}")


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise ValueError("it has to be one line of text")
    return value


def _quantity(value: object, units: Mapping[str | None, float], least: float, most: float, fix: str) -> float:
    match = re.fullmatch(rf"({NUMBER}(?:\.[0-9]{{1,9}})?)([A-Za-z]+)?", _text(value))
    if not match or match[2] not in units or not least <= float(match[1]) * units[match[2]] <= most:
        raise _refused(value, fix)
    return float(match[1]) * units[match[2]]


def _duration(value: object) -> float:
    fix = "use a duration such as 250ms, 30s, 5m, 1h or 7d, or a number of seconds: above zero, up to 365d"
    return _quantity(value, DURATIONS, 1e-9, LONGEST, fix)


def _wait(value: object) -> float:
    fix = "use a duration such as 250ms, 30s, 5m, 1h or 7d, or a number of seconds: 0s for none, up to 365d"
    return _quantity(value, DURATIONS, 0, LONGEST, fix)


def _size(value: object) -> int:
    fix = "use a size such as 64KB, 512MB, 1GB, 64KiB, 512MiB or 1GiB, or a number of bytes"
    return int(_quantity(value, SIZES, 1, 1e15, fix))


def _whole(least: int, most: int) -> Callable[[object], int]:
    def parse(value: object) -> int:
        if not re.fullmatch(NUMBER, text := _text(value)) or not least <= int(text) <= most:
            raise _refused(value, f"use a whole number from {least} to {most}")
        return int(text)

    return parse


def _share(value: object) -> float:
    text = _text(value)
    if not re.fullmatch(r"[0-9]{1,2}(\.[0-9]{1,6})?|\.[0-9]{1,6}", text) or float(text) > 10:
        raise _refused(value, "use a number from 0 to 10, such as 0.2")
    return float(text)


def _part(value: object) -> float:
    text = _text(value)
    if not re.fullmatch(r"[01](\.[0-9]{1,6})?|\.[0-9]{1,6}", text) or float(text) > 1:
        raise _refused(value, "use a number from 0 to 1, such as 0.9")
    return float(text)


def _flag(value: object) -> bool:
    if (word := _text(value).lower()) not in ("true", "false"):
        raise _refused(value, "use true or false")
    return word == "true"


def one_of(*words: str) -> PlainValidator:
    """One of `words`, written in any case."""

    def parse(value: object) -> str:
        if (word := _text(value).lower()) not in words:
            raise _refused(value, f"use {' or '.join(words)}")
        return word

    return PlainValidator(parse, json_schema_input_type=Annotated[str, WithJsonSchema({"enum": list(words)})])


def _items(value: object) -> object:
    """A list; text is taken for a comma-separated one, which is how a variable gives it."""
    if isinstance(value, str):
        return [item.strip() for item in value.split(",")] if value.strip() else []
    if not isinstance(value, list):
        raise ValueError("it has to be a list, such as [first, second]")
    return value


def read_json(value: object) -> object:
    """What a variable holds of a key that has keys of its own; None if its text is no JSON, "" is an empty list.

    What is no text is as it was. Numbers and switches become text, as those of a file are.
    """
    if not isinstance(value, str):
        return value
    try:
        read: object = json.loads(
            value.strip() or "[]", parse_int=str, parse_float=str, object_pairs_hook=_members
        )
    except (ValueError, RecursionError):
        return None
    return read


def _members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = {name: str(each).lower() if isinstance(each, bool) else each for name, each in pairs}
    if len(members) < len(pairs):
        raise ValueError("a member stands there a second time")
    return members


def _address(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _host(value: object) -> str:
    host = _text(value)
    # A name that ends in digits is read as an address, or as nothing (WHATWG URL §3.5 "ends in a number").
    if not _address(host) and (not re.fullmatch(HOSTNAME, host) or host.split(".")[-1].isdigit()):
        raise _refused(value, "use an address or a host name alone, such as 127.0.0.1, ::1 or localhost")
    return host


def _network(value: object) -> Network:
    try:
        return ipaddress.ip_network(_text(value))
    except ValueError:
        pass
    raise _refused(value, "use an address, or a network without host bits such as 10.0.0.0/8 or fd00::/8")


def _split(value: object, fix: str) -> SplitResult:
    """The parts of an http(s) URL that has a valid host and port, and no user, query or fragment."""
    if re.search("[@?]", text := _text(value)):  # before anything that repeats it: either may hold a password
        raise ValueError(f"a URL with a user or a query will not do: {fix}")
    try:
        parts = urlsplit(text)
        plain = text.isascii() and not re.search(r"[\s\\#]", text) and parts.port != 0
        if not plain or parts.scheme not in ("http", "https"):
            raise _refused(text, fix)
        _host(parts.hostname)
    except ValueError:
        raise _refused(text, fix) from None
    return parts


def _secure(parts: SplitResult) -> bool:
    return parts.scheme == "https" or is_local(parts.hostname or "")


def _origin(value: object) -> str:
    fix = "use an origin without a path, such as https://proxy.example.com or http://proxy.lan:4000"
    parts = _split(value, fix)
    if parts.path:
        raise _refused(value, fix)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    default = {"http": 80, "https": 443}[parts.scheme]  # browsers leave it out of Origin (RFC 6454 §6.2)
    return f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port not in (None, default) else "")


def _cors_origin(value: object) -> str:
    """A browser's origin: of a web page, or of an application that has a scheme of its own; `*` for all."""
    text = _text(value)
    if text == "*" or (
        not text.startswith("http") and re.fullmatch(r"[a-z][a-z0-9+.-]*://[a-z0-9.-]+", text)
    ):
        return text
    return _origin(text)


def _redirect(value: object) -> str:
    _split(value, "use an absolute http(s) URL, such as https://proxy.example.com/oauth/callback")
    return str(value)


def _endpoint(value: object) -> str:
    fix = "use an https:// URL; http:// only for a loopback address such as http://127.0.0.1:8080"
    if not _secure(_split(value, fix)):
        raise _refused(value, fix)
    return str(value)


def _collector(value: object) -> str:
    _split(value, "use an http(s) URL, such as http://127.0.0.1:4318")
    return str(value)


def webhook_url(value: object) -> str:
    """A URL under which somebody may post, with or without a query. No error repeats it: it is a secret."""
    text = _text(value)
    base, _, query = text.partition("?")
    try:
        secure = _secure(_split(base, ""))
    except ValueError:
        secure = False
    if not secure or not re.fullmatch(r"[!-~]*", query) or "#" in query or len(text) > 2048:
        raise ValueError(
            "use an https:// URL without a user; http:// only for a loopback address such as "
            "http://127.0.0.1:8080"
        )
    return text


def is_local(host: str) -> bool:
    """Whether the host is this machine."""
    address = _address(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def _base_url(value: object) -> str:
    url = _endpoint(value).rstrip("/")
    if ends := re.search("/v1(?:/messages)?$", url, re.IGNORECASE):
        fix = f"leave {ends[0]} out, since each request brings its own: {url[: ends.start()]}"
        raise ValueError(f"{url!r} will not do: {fix}")
    return url


def _folder(value: object) -> Path:
    try:
        return Path(_text(value)).expanduser()
    except RuntimeError:  # no such user, or no home
        raise _refused(value, "its ~ is nobody's home here: use an absolute path") from None


def _proxy(value: object) -> SecretStr:
    return SecretStr(proxy_url(_text(value)))


def _store_url(value: object) -> SecretStr:
    StoreAddress.read(_text(value))
    return SecretStr(_text(value))


def _store_name(value: object) -> str:
    if not re.fullmatch("[A-Za-z0-9_-]{1,64}", name := _text(value)):
        raise _refused(value, "use 1 to 64 of A-Z a-z 0-9 _ -, such as claude-proxy")
    return name


def _ca_file(value: object) -> Path:
    path = _folder(value)
    if why := unusable(path):
        raise ValueError(f"{path} {why}: name a file of certificates as PEM")
    return path


def _admin_key(value: object) -> SecretStr:
    """The key, which no error repeats."""
    key, fix = _text(value), f"make one with: {NEW_KEY}"
    if len(key) < 16:
        raise ValueError(f"it has fewer than 16 characters: {fix}")
    if not re.fullmatch("[!-~]+", key):
        raise ValueError(f"it has characters that an HTTP header cannot carry: {fix}")
    if SAMPLE.fullmatch(re.sub("[^a-z0-9]", "", key.lower())):
        raise ValueError(f"it is a sample, or the key of another service: {fix}")
    if len(set(key)) < 6:
        raise ValueError(f"it is easily guessed: {fix}")
    return SecretStr(key)


def _admin_key_file(value: object) -> SecretStr:
    """The admin key in a file. An error repeats the path only if it cannot be a key in the wrong place."""
    path = _folder(value)
    try:
        with path.open("rb") as file:
            text = file.read(MAX_KEY_FILE_BYTES).decode("ascii", "replace").strip()
    except OSError as error:
        what = path if PATH.match(_text(value)) else "it"
        raise ValueError(f"{what} cannot be read: {error.strerror}: name a file that holds the key") from None
    return _admin_key(text)


def _secret(value: object) -> SecretStr:
    """A secret shared with another service, which no error repeats."""
    if len(_text(value)) < 16:
        raise ValueError(f"it has fewer than 16 characters: make one with: {NEW_KEY}")
    return SecretStr(_text(value))


def _encryption_key(value: object) -> SecretBytes:
    """The 32 bytes that the text stands for, in hex or base64 (RFC 4648, either alphabet); no error repeats it."""
    text, fix = _text(value), f"make one with: {NEW_ENCRYPTION_KEY}"
    if not ENCRYPTION_KEY.fullmatch(text):
        raise ValueError(f"it is not 32 bytes as base64 or hex: {fix}")
    if len(text) == 64:
        key = bytes.fromhex(text)
    else:
        key = base64.b64decode(text[:43] + "=", altchars=b"-_" if re.search("[-_]", text) else None)
    if len(set(key)) < 8:  # of 32 random bytes, one in 10^40 has so few different ones
        raise ValueError(f"it is easily guessed: {fix}")
    return SecretBytes(key)


def _keys_file(value: object) -> tuple[SecretBytes, ...]:
    """The keys in a file, one a line. It is read here, so that an error names the option."""
    if ENCRYPTION_KEY.fullmatch(_text(value)):  # before anything that repeats it
        raise ValueError("it is a key: it has to be the path of a file that holds the key")
    path = _folder(value)
    try:
        with path.open("rb") as file:
            lines = file.read(MAX_KEY_FILE_BYTES).decode("ascii", "replace").split()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    try:
        keys = tuple(_encryption_key(line) for line in lines)
    except ValueError as error:
        raise ValueError(f"a line of {path} is no key: {error}") from None
    if not keys:
        raise ValueError(f"{path} is empty: write a key to it, made with: {NEW_ENCRYPTION_KEY}")
    return keys


def _key_file(value: object) -> SecretBytes:
    keys = _keys_file(value)
    if len(keys) > 1:
        raise ValueError("it holds several keys: leave one, the others go to storage.encryption_key_old_file")
    return keys[0]


def _schema(**schema: object) -> object:
    """What an editor may know of a value, for `json_schema_input_type`."""
    return Annotated[object, WithJsonSchema(schema)]


def _read_by(parse: Callable[[object], object], **schema: object) -> PlainValidator:
    return PlainValidator(parse, json_schema_input_type=_schema(**schema))


def _listed() -> BeforeValidator:
    return BeforeValidator(_items, json_schema_input_type=_schema(type=["array", "string"], items=TEXT))


TEXT = {"type": "string"}
AMOUNT = {"type": ["string", "number"]}
DURATION = AMOUNT | {"pattern": rf"^{NUMBER}(\.[0-9]{{1,9}})?(ms|s|m|h|d)?$"}
SIZE = AMOUNT | {"pattern": rf"^{NUMBER}(\.[0-9]{{1,9}})?(KB|MB|GB|KiB|MiB|GiB)?$"}
SECRET = TEXT | {"minLength": 16}
HTTP_URL = TEXT | {"pattern": "^https?://"}
KEY = TEXT | {"minLength": 43, "maxLength": 64}


def _from(least: int, most: int) -> dict[str, object]:
    return {"type": "integer", "minimum": least, "maximum": most}


Text = Annotated[str, _read_by(_text, **TEXT)]
Flag = Annotated[bool, _read_by(_flag, type="boolean")]
Duration = Annotated[float, _read_by(_duration, **DURATION)]  # seconds, above zero
Wait = Annotated[float, _read_by(_wait, **DURATION)]  # seconds, zero for none
Size = Annotated[int, _read_by(_size, **SIZE)]  # bytes
Port = Annotated[int, _read_by(_whole(0, 65535), **_from(0, 65535))]
Share = Annotated[
    float, _read_by(_share, type="number", minimum=0, maximum=10)
]  # of something for each request
Part = Annotated[float, _read_by(_part, type="number", minimum=0, maximum=1)]  # of a whole
Tries = Annotated[int, _read_by(_whole(1, 20), **_from(1, 20))]
Workers = Annotated[int, _read_by(_whole(1, 64), **_from(1, 64))]
Slots = Annotated[int, _read_by(_whole(1, 10_000), **_from(1, 10_000))]
Host = Annotated[str, _read_by(_host, **TEXT)]
Networks = Annotated[tuple[Annotated[Network, PlainValidator(_network)], ...], _listed()]
Origins = Annotated[tuple[Annotated[str, PlainValidator(_origin)], ...], _listed()]
CorsOrigins = Annotated[tuple[Annotated[str, PlainValidator(_cors_origin)], ...], _listed()]
Endpoint = Annotated[str, _read_by(_endpoint, **HTTP_URL)]
Collector = Annotated[str, _read_by(_collector, **HTTP_URL)]
WebhookUrl = Annotated[str, _read_by(webhook_url, **HTTP_URL), "who knows its path may post"]
BaseUrl = Annotated[str, _read_by(_base_url, **HTTP_URL)]
RedirectUri = Annotated[str, _read_by(_redirect, **HTTP_URL)]
Folder = Annotated[Path, _read_by(_folder, **TEXT)]
OutboundProxy = Annotated[SecretStr, _read_by(_proxy, type="string", pattern="^(http|socks5h)://")]
StoreUrl = Annotated[
    SecretStr,
    _read_by(_store_url, **TEXT, pattern=r"^(rediss?(\+sentinel)?|unix)://"),
    "it may hold a password",
]
StoreName = Annotated[str, _read_by(_store_name, **TEXT)]
CaFile = Annotated[Path, _read_by(_ca_file, **TEXT)]
Secret = Annotated[SecretStr, _read_by(_secret, **SECRET)]
AdminKey = Annotated[SecretStr, _read_by(_admin_key, **SECRET)]
AdminKeyFile = Annotated[SecretStr, _read_by(_admin_key_file, **TEXT)]  # the key in it
EncryptionKey = Annotated[SecretBytes, _read_by(_encryption_key, **KEY)]
EncryptionKeys = Annotated[tuple[EncryptionKey, ...], _listed()]
KeyFile = Annotated[SecretBytes, _read_by(_key_file, **TEXT)]  # the key in it
KeysFile = Annotated[tuple[SecretBytes, ...], _read_by(_keys_file, **TEXT)]  # the keys in it
