"""Runs programs that use a real client of the Claude API, and says why where the client is not installed."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

HERE = Path(__file__).parent
INSTALLED = Path(sys.prefix) / "clients"
"""Where the Makefile installs them, a folder each."""

TIMEOUT_S = 60.0
NOTHING: Mapping[str, str] = MappingProxyType({})
# npm's codes, and the postinstall script's words, where a registry has no such package or cannot be reached.
NOT_TO_BE_HAD = re.compile(
    r"npm error code (E404|E403|ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ENETUNREACH|ETIMEDOUT|EBADPLATFORM)\b"
    r"|native binary not installed"
)


def folder_of(client: str, *, may_be_missing: bool = False) -> Path:
    """Where `client` is installed. Fails the test where it is not.

    With `may_be_missing` the test is skipped instead, but only where the package is not to be had.
    """
    folder = INSTALLED / client
    if (folder / ".installed").exists():
        return folder
    log = folder / "install.log"
    text = log.read_text() if log.exists() else ""
    if may_be_missing and (found := NOT_TO_BE_HAD.search(text)):
        pytest.skip(f"{client} is not to be had here: {found[0]} ({log})")
    pytest.fail(f"the client {client} is not installed: `make test` does that. {log}:\n{text[-2000:]}")


async def run(
    *command: str, folder: Path, environ: Mapping[str, str], stdin: bytes = b""
) -> tuple[int, str, str]:
    """Exit status, output and error output of a program, which sees nothing of this one's environment."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env={"PATH": os.environ["PATH"], **environ},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(TIMEOUT_S):
            out, err = await process.communicate(stdin)
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()
