"""Settings from variables alone."""

from __future__ import annotations

import pytest

from proxy.config.settings import Settings, load_settings
from proxy.errors import SettingsError

KEY = "Zx9Zx8qWm2LpR7tUv"


def load(**variables: str) -> Settings:
    """The settings with KEY as the admin key."""
    return load_settings(None, {"AUTH__API_KEY": KEY} | variables)


def refusal(**variables: str) -> str:
    """The error that such settings give."""
    with pytest.raises(SettingsError) as caught:
        load(**variables)
    return str(caught.value)
