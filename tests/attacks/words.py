"""What the grammar puts together: keys, methods, targets, names and values of headers."""

from __future__ import annotations

from tests.service import ADMIN_KEY, CLIENT_KEY

LIMITED_KEY = "cp-a-limited-key-of-attacks-9tRm"
"""It has a budget and a list of models, so that the proxy has to know what is asked for."""

WRONG_KEY = "cp-a-key-that-nobody-made-0123456789-abcdefghijklmnopqrstuv"
FOREIGN_KEY = "sk-ant-api03-a-foreign-key-of-attacks-5Yd2Wq8Zr"
SECRETS = (ADMIN_KEY, CLIENT_KEY, LIMITED_KEY, WRONG_KEY, FOREIGN_KEY)
PLANTS = (WRONG_KEY, FOREIGN_KEY, f"Bearer {FOREIGN_KEY}")
"""What is planted where it does not belong: shapes alone give these away."""

METHODS = (
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "TRACK", "CONNECT", "PRI", "QUERY", "get",
    "PoSt",
    "x-Y!", "A" * 300, "GET\t", "G\0T", "GÉT", "\x16\x03\x01",
)  # fmt: skip
VERSIONS = (
    "HTTP/1.0",
    "HTTP/1.2",
    "HTTP/2.0",
    "HTTP/1.10",
    "http/1.1",
    "HTTP/0.9",
    "HTTP/1.1 ",
    "HTTP/1,1",
    "",
)
SEGMENTS = (
    "v1", "v1", "v1", "messages", "models", "files", "..", ".", "", "%2e%2e", "%2E.", "..;x", "a%2fb", "%2f..%2f",
    "%5c..",
    "..\\", "\\", "%00", "a\0b", "%c0%ae%c0%ae", "%252e%252e", "%25252e%25252e", "..%3b", ";a=b", "@evil.test",
    "#frag", "api",
    "accounts", "oauth", "token", "OAuth", "organizations", "%6frganizations", "organizations;x", "é", "\x85",
    "\x9b31m",
    "%0d%0aX:y", "%", "%zz", "*", "~", "a b", "%ff", "health", "static",
)  # fmt: skip
PREFIXES = (
    "http://127.0.0.1",
    "https://evil.test",
    "http://evil.test:80",
    "//evil.test",
    "/\\evil.test",
    "evil.test:443",
)
WHOLE = (
    "*",
    "/",
    "evil.test:443",
    "http://",
    "?",
    "/v1",
    "/v1/",
    "/v1?",
    "//v1/a",
    "/v1/../api/accounts",
    "/V1/messages",
)
KNOWN = (
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/v1/chat/completions",
    "/v1/models",
    "/v1/embeddings/models",
    "/v1/complete",
)
NAMES = (
    "Accept", "Accept-Encoding", "Anthropic-Beta", "Anthropic-Version", "Authorization", "Connection",
    "Content-Encoding",
    "Content-Length", "Content-Type", "Cookie", "Expect", "Forwarded", "Host", "If-Match", "Keep-Alive",
    "Max-Forwards",
    "Origin", "Proxy-Authorization", "Proxy-Connection", "Range", "Referer", "Sec-Fetch-Site", "Set-Cookie", "TE",
    "Trailer",
    "Transfer-Encoding", "Upgrade", "User-Agent", "Via", "X-API-Key", "X-Forwarded-For", "X-Forwarded-Host",
    "X-Forwarded-Proto", "X-HTTP-Method-Override", "X-Real-Ip", "X-Proxy-Account", "X-Stainless-Retry-Count",
    "X-Claude-Code-Session-Id", "Sec-WebSocket-Key", "Sec-WebSocket-Version", "HTTP2-Settings", "Idempotency-Key",
)  # fmt: skip
ODD_NAMES = (
    "",
    " X",
    "X ",
    "X\t",
    "X\0",
    "X\r",
    "é",
    "X(y)",
    "X\x7f",
    "a" * 9000,
    ":authority",
    "_",
    "X_API_Key",
    "x-api-key ",
)
VALUES = (
    "", " ", "a", "close", "keep-alive", "close, x-api-key, host", "upgrade", "content-length, transfer-encoding",
    "chunked",
    "gzip", "identity", "gzip, chunked", "100-continue", "websocket", "h2c", "0", "-1", "5",
    "99999999999999999999", "0x5",
    "1, 1", "null", "http://evil.test", "evil.test", "127.0.0.1", "127.0.0.1, evil.test", "::1", "10.0.0.1, é",
    "same-origin",
    "cross-site", "*", '"', "bytes=0-", "application/json", "multipart/form-data; boundary=x", "text/plain", "13",
    "b, a",
    "\t", "a\tb", "a\x00b", "a\rb", "a\nb", "a\r\n b", "a\x0bb", "\x7f", "\x85", "\xff" * 20, "%0d%0aX: y",
    "%s%n{0}", "a=b; c",
    "1.2.3.4:80", "[::1]:80", "fe80::1%eth0", "::ffff:1.2.3.4", "unknown, _hidden", "1.2.3.4," * 3000, "999.1.1.1",
    "x" * 8000, "x" * 40_000, ",".join("b" * 9 for _ in range(900)), ";" * 4000, "a=b;" * 3000, "claude-proxy=",
)  # fmt: skip
TIMES = ("2026-01-01", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00")
SCRIPTS = ("%3Cscript%3Ealert(1)%3C/script%3E", "%22%3E%3Cimg%20src=x%3E", "javascript:alert(1)")
CHUNK_EXTRAS = ((b"", b""), (b";a=b", b"X: y\r\n"), (b";" + b"a" * 5000, b""), (b"", b"x" * 9000))
"""Extensions and trailers."""

NOISE = (
    b"\r",
    b"\n",
    b"\0",
    b" ",
    b"\t",
    b":",
    b"\x80",
    b"\xff",
    b"\r\n",
    b"\r\n\r\n",
    b"0\r\n\r\n",
    b"HTTP/1.1",
    b"%",
    b",",
)
LENGTHS = (
    "0",
    "1",
    "7",
    "+5",
    "-5",
    "0x10",
    "5 5",
    "5,5",
    "99999999999",
    "18446744073709551616",
    "",
    "٣",
    "1e3",
)
