"""The two families of rate limit headers: of API keys, and the unified one of OAuth accounts.

Names and formats are the API's own. The numbers are plausible, not enforced.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from proxy.clock import rfc3339

from .replies import Headers

UNIFIED = "anthropic-ratelimit-unified-"
_WINDOW_S = {"5h": 5 * 3600, "7d": 7 * 86400, "7d_oi": 7 * 86400}
_CLAIM = {"5h": "five_hour", "7d": "seven_day", "7d_oi": "seven_day_overage_included"}
_KEY_LIMITS = {"requests": 4000, "input-tokens": 2_000_000, "output-tokens": 400_000, "tokens": 2_400_000}
# What one window of a simulated subscription holds; only its utilization is shown.
_PLAN_TOKENS = {"5h": 2_000_000, "7d": 40_000_000}


@dataclass(slots=True)
class Meter:
    """What one credential used: in this minute (API keys), in each window that runs (OAuth), and in all.

    Its windows end `offset_s` later than those of a credential without.
    """

    minute: int = 0
    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    offset_s: int = 0
    windows: dict[str, tuple[int, int]] = field(
        default_factory=dict
    )  # the end of each, and the tokens used in it

    def count(self, now: float, input_tokens: int, output_tokens: int) -> None:
        if self.minute != int(now // 60):
            self.minute = int(now // 60)
            self.requests = self.input_tokens = self.output_tokens = 0
        self.requests += 1
        self.input_tokens += input_tokens
        self.output_tokens += output_tokens
        self.total_tokens += input_tokens + output_tokens
        for window in _PLAN_TOKENS:
            used = self.used(window, now) + input_tokens + output_tokens
            self.windows[window] = self.end(window, now), used

    def used(self, window: str, now: float) -> int:
        """The tokens that were used in the window that runs now."""
        end, tokens = self.windows.get(window, (0, 0))
        return tokens if end == self.end(window, now) else 0

    def end(self, window: str, now: float) -> int:
        """When the window that runs now ends, in Unix seconds."""
        return window_end(window, now - self.offset_s) + self.offset_s

    def start(self, window: str, now: float, part: float) -> None:
        """Begin with this part of the window used."""
        self.windows[window] = self.end(window, now), round(part * _PLAN_TOKENS[window])


def _utc(epoch_s: float) -> str:
    return rfc3339(epoch_s)[: -len(".000Z")] + "Z"


def api_key_headers(meter: Meter, now: float) -> Headers:
    used = {
        "requests": meter.requests,
        "input-tokens": meter.input_tokens,
        "output-tokens": meter.output_tokens,
        "tokens": meter.input_tokens + meter.output_tokens,
    }
    reset = _utc((now // 60 + 1) * 60)
    headers: list[tuple[str, str]] = []
    for name, limit in _KEY_LIMITS.items():
        remaining = max(0, limit - used[name])
        shown = remaining if name == "requests" else round(remaining, -3)
        headers += [
            (f"anthropic-ratelimit-{name}-limit", str(limit)),
            (f"anthropic-ratelimit-{name}-remaining", str(shown)),
            (f"anthropic-ratelimit-{name}-reset", reset),
        ]
    return tuple(headers)


def unified_headers(meter: Meter, now: float) -> Headers:
    """Both shared windows `allowed`."""
    headers = [(f"{UNIFIED}status", "allowed")]
    for window, tokens in _PLAN_TOKENS.items():
        headers += [
            (f"{UNIFIED}{window}-status", "allowed"),
            (f"{UNIFIED}{window}-utilization", str(round(min(0.99, meter.used(window, now) / tokens), 4))),
            (f"{UNIFIED}{window}-reset", str(meter.end(window, now))),
        ]
    headers += [
        (f"{UNIFIED}representative-claim", "five_hour"),
        (f"{UNIFIED}reset", str(meter.end("5h", now))),
        (f"{UNIFIED}fallback-percentage", "0.5"),
        (f"{UNIFIED}overage-status", "rejected"),
        (f"{UNIFIED}overage-disabled-reason", "out_of_credits"),
    ]
    return tuple(headers)


def rejected_headers(window: str, now: float, reset_in: float) -> Headers:
    """A 429's headers with `window` rejected for `reset_in` seconds and the other windows allowed."""
    reset = str(round(now + reset_in))
    headers = [(f"{UNIFIED}status", "rejected")]
    for name in dict.fromkeys(("5h", "7d", window)):
        rejected = name == window
        headers += [
            (f"{UNIFIED}{name}-status", "rejected" if rejected else "allowed"),
            (f"{UNIFIED}{name}-utilization", "1.0" if rejected else "0.42"),
            (f"{UNIFIED}{name}-reset", reset if rejected else str(window_end(name, now))),
        ]
    headers += [
        (f"{UNIFIED}representative-claim", _CLAIM.get(window, window)),
        (f"{UNIFIED}reset", reset),
        (f"{UNIFIED}overage-status", "rejected"),
        (f"{UNIFIED}overage-disabled-reason", "out_of_credits"),
        ("retry-after", str(max(0, round(reset_in)))),
    ]
    return tuple(headers)


def exhausted_key_headers(now: float, retry_after: float) -> Headers:
    """An API key's 429: no input tokens left until `retry_after` seconds from now."""
    headers = dict(api_key_headers(Meter(), now))
    for name in ("input-tokens", "tokens"):
        headers[f"anthropic-ratelimit-{name}-remaining"] = "0"
        headers[f"anthropic-ratelimit-{name}-reset"] = _utc(now + retry_after)
    return (*headers.items(), ("retry-after", str(max(0, round(retry_after)))))


def window_end(window: str, now: float) -> int:
    """When the running window ends, in Unix seconds."""
    length = _WINDOW_S.get(window, _WINDOW_S["5h"])
    return int(now // length + 1) * length
