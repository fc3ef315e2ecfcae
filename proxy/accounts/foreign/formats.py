"""The files of other programs, each as that program's own source writes it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import PurePath
from types import MappingProxyType
from typing import Final

from proxy.accounts.account import ApiKey, OAuthTokens
from proxy.accounts.foreign.offer import (
    NONE,
    Found,
    Json,
    Offer,
    Refusal,
    entries,
    epoch_s,
    inside,
    rfc3339_s,
    shown,
    text,
    url_of_proxy,
)

Documents = Mapping[str, object]
"""The JSON of each file by its name: of a single file, or of all in a folder."""

MS: Final = 0.001


def go_original(documents: Documents) -> Iterator[Found]:
    """`accounts.json` of the Go original: a list, or an older object by organisation.

    Source: Phathdt/claude-proxy, modules/auth/application/dto/account_dto.go (AccountPersistenceDTO) and
    modules/auth/infrastructure/repositories/json_account_repository.go (LoadAll).
    """
    for document in documents.values():
        if isinstance(document, list):
            for each in entries({"accounts": document}, "accounts"):
                yield _checked(text(each, "name"), partial(_of_go, each))
        elif isinstance(document, Mapping):
            for organization, each in document.items():
                yield _checked(organization, partial(_of_old_go, organization, each))


def _of_go(each: Json) -> Found:
    name, status = shown(text(each, "name")), text(each, "status")
    if status == "invalid":
        return Refusal(name, "it was invalid there: its login was refused")
    tokens = OAuthTokens(
        text(each, "access_token"), text(each, "refresh_token") or None, rfc3339_s(each, "expires_at")
    )
    return Offer(name, tokens, text(each, "organization_uuid") or None, active=status != "inactive")


def _of_old_go(organization: str, each: object) -> Found:
    token = inside(each, "oauth_token")
    tokens = OAuthTokens(
        text(token, "access_token"), text(token, "refresh_token") or None, epoch_s(token, "expires_at")
    )
    status = text(each, "status") if isinstance(each, Mapping) else ""
    if status == "invalid":
        return Refusal(shown(organization), "it was invalid there: its login was refused")
    return Offer(shown(organization), tokens, organization, active=status != "inactive")


def claude_relay_service(documents: Documents) -> Iterator[Found]:
    """An export of claude-relay-service: by its scripts, or by `GET /admin/sync/export-accounts`.

    Source: Wei-Shaw/claude-relay-service, scripts/data-transfer-enhanced.js (exportData),
    src/services/claudeAccountService.js (createAccount) and src/routes/admin/sync.js.
    """
    for document in documents.values():
        data, exported = inside(document, "data"), inside(document, "metadata")
        for each in entries(data, "claudeAccounts"):
            read = _of_sync if each.get("kind") == "claude-account" else _of_script
            taken_out = exported.get("sanitized") is True
            yield (
                Refusal(shown(text(each, "name")), "the export was sanitized: its credentials were taken out")
                if taken_out
                else _checked(text(each, "name"), partial(read, each))
            )
        for each in entries(data, "claudeConsoleAccounts"):
            yield _checked(text(each, "name"), partial(_of_console, each))
        for kind, whose in (
            ("geminiAccounts", "Gemini"),
            ("openaiOAuthAccounts", "OpenAI"),
            ("openaiResponsesAccounts", "OpenAI"),
        ):
            for each in entries(data, kind):
                yield Refusal(shown(text(each, "name")), f"it is an account of {whose}")


def _of_script(each: Json) -> Found:
    """A Redis hash: all its values are texts, `expiresAt` is in milliseconds, `proxy` is JSON."""
    tokens = OAuthTokens(
        text(each, "accessToken"),
        text(each, "refreshToken") or None,
        epoch_s(each, "expiresAt", MS),
        text(each, "scopes") or None,
    )
    proxy = _json(text(each, "proxy"))
    return Offer(
        shown(text(each, "name")),
        tokens,
        text(_json(text(each, "subscriptionInfo")), "organizationUuid") or None,
        active=text(each, "isActive") != "false",
        proxy=url_of_proxy(proxy, text(proxy, "type")),
    )


def _of_sync(each: Json) -> Found:
    given, proxy = inside(each, "credentials"), inside(each, "proxy")
    tokens = OAuthTokens(
        text(given, "access_token"),
        text(given, "refresh_token") or None,
        rfc3339_s(given, "expires_at"),
        text(given, "scope") or None,
    )
    return Offer(
        shown(text(each, "name")),
        tokens,
        text(given, "org_uuid") or None,
        active=each.get("isActive") is not False,
        proxy=url_of_proxy(proxy, text(proxy, "protocol")),
    )


def _of_console(each: Json) -> Found:
    given, proxy = inside(each, "credentials"), inside(each, "proxy")
    return Offer(
        shown(text(each, "name")),
        ApiKey(text(given, "api_key")),
        active=each.get("isActive") is not False,
        proxy=url_of_proxy(proxy, text(proxy, "protocol")),
        base_url=text(given, "base_url") or None,
    )


def cli_proxy_api(documents: Documents) -> Iterator[Found]:
    """The auth files of CLIProxyAPI, one for each account.

    Source: router-for-me/CLIProxyAPI, internal/auth/claude/token.go (ClaudeTokenStorage); `disabled` is read by its
    file store.
    """
    for file, document in documents.items():
        each = document if isinstance(document, Mapping) else NONE
        kind = text(each, "type")
        name = text(each, "email") or PurePath(file).stem
        if kind != "claude":
            yield Refusal(
                shown(file), f"its type is {shown(kind)!r}, not claude" if kind else "it has no type"
            )
        else:
            yield _checked(name, partial(_of_cli, name, each))


def _of_cli(name: str, each: Json) -> Found:
    tokens = OAuthTokens(
        text(each, "access_token"), text(each, "refresh_token") or None, rfc3339_s(each, "expired")
    )
    proxy = text(each, "proxy_url") or None
    return Offer(shown(name), tokens, active=each.get("disabled") is not True, proxy=proxy)


def anthropic_profiles(documents: Documents) -> Iterator[Found]:
    """Profiles of the official command line and SDKs: `configs/<name>.json` and `credentials/<name>.json`.

    Source: anthropics/anthropic-sdk-python, src/anthropic/lib/credentials/_providers.py (CredentialsFile).
    """
    for file, document in documents.items():
        folder, name = PurePath(file).parent.name, PurePath(file).stem
        if folder == "credentials" and f"configs/{name}.json" not in documents:
            yield Refusal(shown(name), f"there is no configs/{shown(name)}.json, which says what it is")
        elif folder == "configs":
            tokens = documents.get(f"credentials/{name}.json")
            yield _checked(name, partial(_of_profile, name, document, tokens))


def _of_profile(name: str, config: object, credentials: object) -> Found:
    authentication, name = inside(config, "authentication"), shown(name)
    match text(authentication, "type"):
        case "user_oauth":
            pass
        case "oidc_federation":
            return Refusal(
                name, "workload identity federation: its token comes from elsewhere, and is not kept"
            )
        case kind:
            return Refusal(name, f"its authentication.type is {shown(kind)!r}, not user_oauth")
    if text(authentication, "credentials_path"):
        return Refusal(name, "authentication.credentials_path names another file, which is not followed")
    if not isinstance(credentials, Mapping):
        return Refusal(name, f"there is no credentials/{name}.json with an object in it")
    if credentials.get("type") not in (None, "oauth_token"):
        return Refusal(name, "its credentials are of a type other than oauth_token")
    if not text(authentication, "client_id"):
        return Refusal(name, "it has no client_id: another program renews its token")
    whole = config if isinstance(config, Mapping) else NONE
    tokens = OAuthTokens(
        text(credentials, "access_token"),
        text(credentials, "refresh_token") or None,
        epoch_s(credentials, "expires_at"),
        text(authentication, "scope") or None,
    )
    return Offer(
        name,
        tokens,
        text(whole, "organization_id") or None,
        client_id=text(authentication, "client_id"),
        base_url=text(whole, "base_url") or None,
    )


FORMATS: Final[Mapping[str, Callable[[Documents], Iterator[Found]]]] = MappingProxyType(
    {
        "claude-proxy-go": go_original,
        "claude-relay-service": claude_relay_service,
        "cliproxyapi": cli_proxy_api,
        "anthropic": anthropic_profiles,
    }
)


def told_apart(documents: Documents) -> str | None:
    """The format of these files, by members that only it has; None if that cannot be told."""
    if any(PurePath(name).parent.name in ("configs", "credentials") for name in documents):
        return "anthropic"
    for document in documents.values():
        if isinstance(document, list):
            fits = [isinstance(each, Mapping) and "organization_uuid" in each for each in document]
            return "claude-proxy-go" if fits and all(fits) else None
        if isinstance(document, Mapping):
            if "claudeAccounts" in inside(document, "data"):
                return "claude-relay-service"
            if "expired" in document and "type" in document:
                return "cliproxyapi"
            if document and all(inside(each, "oauth_token") for each in document.values()):
                return "claude-proxy-go"
    return None


def _checked(name: str, read: Callable[[], Found]) -> Found:
    try:
        return read()
    except ValueError as error:
        return Refusal(shown(name), str(error))


def _json(written: str) -> Json:
    try:
        value = json.loads(written) if written else NONE
    except (ValueError, RecursionError):
        return NONE
    return value if isinstance(value, Mapping) else NONE
