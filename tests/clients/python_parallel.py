"""Sends eight messages at once with the `anthropic` package; prints texts and statuses as JSON."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import anthropic
from calling import Log

WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight")


async def main() -> Any:
    log = Log()
    http = anthropic.DefaultAsyncHttpxClient(event_hooks={"response": [log.add_async]})
    async with anthropic.AsyncAnthropic(http_client=http) as client:
        messages = await asyncio.gather(
            *(
                client.messages.create(
                    model="claude-sonnet-5-5", max_tokens=64, messages=[{"role": "user", "content": word}]
                )
                for word in WORDS
            )
        )
    return {
        "texts": [message.content[0].text for message in messages],
        "statuses": [request[-1] for request in log.requests],
    }


json.dump(asyncio.run(main()), sys.stdout)
