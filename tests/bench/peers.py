"""nginx and caddy as the proxy's peers, and nginx as what puts TLS before the upstream: their configurations."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.bench.versions import BenchError

NGINX = """
daemon off;
master_process off;
worker_rlimit_nofile 20000;
pid {home}/nginx.pid;
error_log {home}/error.log;
events {{ worker_connections 16000; }}
http {{
  access_log {access_log};
  client_body_temp_path {home}/body;
  proxy_temp_path {home}/proxy;
  fastcgi_temp_path {home}/fastcgi;
  uwsgi_temp_path {home}/uwsgi;
  scgi_temp_path {home}/scgi;
  client_max_body_size 0;
  keepalive_requests 1000000000;
  keepalive_timeout 900s;
  upstream behind {{
    server 127.0.0.1:{upstream_port};
    keepalive 6000;
    keepalive_requests 1000000000;
    keepalive_timeout 900s;
  }}
  server {{
    listen 127.0.0.1:{port}{listen} backlog=4096;
    {server}
    location / {{
      proxy_pass {scheme}://behind;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
      proxy_read_timeout 900s;
      {location}
    }}
  }}
}}
"""

NGINX_TLS_UPSTREAM = """proxy_ssl_trusted_certificate {certificate};
      proxy_ssl_verify on;
      proxy_ssl_name localhost;
      proxy_ssl_server_name on;"""

NGINX_TLS_FRONT = """ssl_certificate {certificate};
    ssl_certificate_key {key};
    ssl_session_cache shared:sessions:10m;"""

# No `flush_interval -1`: event streams are flushed at once anyway, and with it a client that leaves ends nothing.
CADDY = """
{{
  admin off
  auto_https off
}}
http://127.0.0.1:{port} {{
  bind 127.0.0.1
  log {{
    output file {home}/access.log {{
      roll_disabled
    }}
  }}
  reverse_proxy {scheme}://127.0.0.1:{upstream_port} {{
    transport http {{
      keepalive 900s
      keepalive_idle_conns 6000
      keepalive_idle_conns_per_host 6000
      compression off
      {transport}
    }}
  }}
}}
"""

CADDY_TLS = """tls
      tls_trusted_ca_certs {certificate}
      tls_server_name localhost"""

PACKAGES = {"nginx": "nginx-light", "caddy": "caddy"}


def executable(name: str) -> str:
    """The path of nginx, caddy or openssl. Raises BenchError if it is not installed."""
    found = shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin")
    if found is None:
        raise BenchError(f"{name} is missing: apt-get install {PACKAGES.get(name, name)}")
    return found


def version(name: str) -> str:
    """What nginx or caddy says of its version, such as 1.22.1."""
    command = [executable(name), "-v" if name == "nginx" else "version"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)  # noqa: S603 - see `executable`
    return (done.stdout + done.stderr).split()[-1 if name == "nginx" else 0].removeprefix("nginx/")


def nginx_command(home: Path, port: int, upstream_port: int, certificate: Path | None) -> list[str]:
    """What runs nginx before the upstream, which speaks TLS if it has a certificate; it logs to a file."""
    tls = "" if certificate is None else NGINX_TLS_UPSTREAM.format(certificate=certificate)
    config = home / "nginx.conf"
    config.write_text(
        NGINX.format(
            home=home,
            access_log=home / "access.log",
            port=port,
            listen="",
            server="",
            scheme="http" if certificate is None else "https",
            location=tls,
            upstream_port=upstream_port,
        )
    )
    return [executable("nginx"), "-p", str(home), "-e", str(home / "error.log"), "-c", str(config)]


def tls_front_command(home: Path, port: int, upstream_port: int, certificate: Path, key: Path) -> list[str]:
    """What runs nginx as the TLS that the upstream itself does not speak; without a log."""
    config = home / "tls.conf"
    config.write_text(
        NGINX.format(
            home=home,
            access_log="off",
            port=port,
            listen=" ssl",
            server=NGINX_TLS_FRONT.format(certificate=certificate, key=key),
            scheme="http",
            location="",
            upstream_port=upstream_port,
        )
    )
    return [executable("nginx"), "-p", str(home), "-e", str(home / "error.log"), "-c", str(config)]


def caddy_command(home: Path, port: int, upstream_port: int, certificate: Path | None) -> list[str]:
    """What runs caddy before the upstream, which speaks TLS if it has a certificate; it logs to a file."""
    config = home / "Caddyfile"
    config.write_text(
        CADDY.format(
            home=home,
            port=port,
            scheme="http" if certificate is None else "https",
            upstream_port=upstream_port,
            transport="" if certificate is None else CADDY_TLS.format(certificate=certificate),
        )
    )
    return [executable("caddy"), "run", "--adapter", "caddyfile", "--config", str(config)]


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for localhost that is its own authority, and its private key: files in `folder`."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    command = [
        *(executable("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
        *(
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost,IP:127.0.0.1",
        ),
        *("-keyout", str(key), "-out", str(certificate)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)  # noqa: S603 - see `executable`
    if done.returncode:
        raise BenchError(f"openssl makes no certificate: {done.stderr.strip()}")
    return certificate, key
