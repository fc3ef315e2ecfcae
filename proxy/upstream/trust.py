"""Which certificates the upstream and the OAuth server may have: the machine's, and the operator's beside them."""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import BinaryIO

import pycurl

from proxy.errors import StartError
from proxy.http.certificates import unusable


class Trust:
    """The certificates of one client, as curl options. `close` it once nothing connects any more."""

    def __init__(self, ca_file: Path | None = None) -> None:
        system = ca_certificates()
        self.options: list[tuple[int, str]] = [system]
        self._joined: BinaryIO | None = None
        if ca_file is None:
            return
        if system[0] == pycurl.CAPATH:
            self.options.append((pycurl.CAINFO, str(ca_file)))
            return
        # libcurl takes one file. One in memory, since it may be read again with each connection, and its text cannot
        # be handed over: libcurl keeps what it has read of a file for a day, and of a text for one connection.
        self._joined = os.fdopen(os.memfd_create("certificates"), "wb", buffering=0)
        self._joined.write(Path(system[1]).read_bytes() + b"\n" + ca_file.read_bytes())
        self.options = [(pycurl.CAINFO, f"/proc/self/fd/{self._joined.fileno()}")]

    def close(self) -> None:
        if self._joined is not None:
            self._joined.close()


def ca_certificates() -> tuple[int, str]:
    """The machine's CA certificates as a curl option. Raises StartError if there are none."""
    check_certificates()
    paths = ssl.get_default_verify_paths()  # obeys SSL_CERT_FILE and SSL_CERT_DIR, which libcurl does not
    if paths.cafile:
        return pycurl.CAINFO, paths.cafile
    if paths.capath:
        return pycurl.CAPATH, paths.capath
    raise StartError(
        "no CA certificates found on this machine: install them (apt install ca-certificates) "
        "or name a file in SSL_CERT_FILE"
    )


def check_certificates() -> None:
    """Raise StartError if SSL_CERT_FILE or SSL_CERT_DIR names what is none: others would be trusted in its place."""
    file, folder = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    if file and (why := unusable(Path(file))):
        raise StartError(f"SSL_CERT_FILE names {file}, which {why}: correct it, or unset it")
    if folder and not file and not os.path.isdir(folder):
        raise StartError(f"SSL_CERT_DIR names {folder}, which is no folder: correct it, or unset it")
