"""The models that the simulator has: GET /v1/models."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from .auth import Credential
from .pages import after_before
from .replies import Answer, ApiError, Json, json_answer
from .requests import Request
from .routes import Routes

# id → (display name, released, line), newest first
_MODELS: Mapping[str, tuple[str, str, str]] = MappingProxyType(
    {
        "claude-opus-5-5": ("Claude Opus 5.5", "2026-10-21", "opus"),
        "claude-haiku-5-5": ("Claude Haiku 5.5", "2026-10-07", "haiku"),
        "claude-sonnet-5-5": ("Claude Sonnet 5.5", "2026-09-16", "sonnet"),
        "claude-fable-5-1": ("Claude Fable 5.1", "2026-08-19", "fable"),
        "claude-mythos-5-1": ("Claude Mythos 5.1", "2026-08-19", "mythos"),
        "claude-opus-5": ("Claude Opus 5", "2026-06-10", "opus"),
        "claude-sonnet-5": ("Claude Sonnet 5", "2026-06-10", "sonnet"),
        "claude-opus-4-8": ("Claude Opus 4.8", "2026-04-28", "opus"),
        "claude-opus-4-7": ("Claude Opus 4.7", "2026-03-24", "opus"),
        "claude-opus-4-6": ("Claude Opus 4.6", "2026-02-05", "opus"),
        "claude-sonnet-4-6": ("Claude Sonnet 4.6", "2026-02-17", "sonnet"),
        "claude-opus-4-5": ("Claude Opus 4.5", "2025-11-24", "opus"),
        "claude-haiku-4-5": ("Claude Haiku 4.5", "2025-10-15", "haiku"),
        "claude-sonnet-4-5": ("Claude Sonnet 4.5", "2025-09-29", "sonnet"),
    }
)

UNPRICED = "claude-unpriced-1"
"""A model that answers, though no list of models or prices has it, as on the day of a release."""

# Tokens that a prompt needs to be cached (build-with-claude/prompt-caching); 1024 where none is named here.
_LEAST_CACHED = {
    "claude-opus-4-5": 4096,
    "claude-opus-4-6": 4096,
    "claude-haiku-4-5": 4096,
    "claude-sonnet-4-6": 2048,
}


def require_model(model: str) -> str:
    """`model` where it exists, with or without a date; ApiError 404 else."""
    if _undated(model) not in (*_MODELS, UNPRICED):
        raise ApiError(404, f"model: {model}")
    return model


def least_cached_tokens(model: str) -> int:
    """How long a prompt must be for this model's cache to keep it."""
    return _LEAST_CACHED.get(_undated(model), 1024)


def _undated(model: str) -> str:
    return re.sub(r"-(\d{8}|latest)$", "", model)


async def list_models(caller: Credential, request: Request) -> Answer:
    return json_answer(after_before([_info(model) for model in _MODELS], request, default=20))


async def get_model(caller: Credential, request: Request, model: str) -> Answer:
    if _undated(model) not in _MODELS:
        raise ApiError(404, f"model: {model}")
    return json_answer(_info(model))


ROUTES: Routes = (("GET", "/v1/models", list_models), ("GET", "/v1/models/{}", get_model))


def _info(model: str) -> Json:
    name, released, line = _MODELS[_undated(model)]
    return {
        "type": "model",
        "id": model,
        "display_name": name,
        "created_at": f"{released}T00:00:00Z",
        "lifecycle": "active",
        "line": line,
        "max_input_tokens": 200_000 if line == "haiku" else 1_000_000,
        "max_tokens": 64_000 if line == "haiku" else 128_000,
        "deprecated_at": None,
        "retires_at": None,
        "capabilities": None,
    }
