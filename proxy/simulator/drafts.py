"""The content of an answer while it is made: thinking, text, calls of tools, and what the server's own tools did."""

from __future__ import annotations

from dataclasses import dataclass, field

from . import prose
from .auth import Organization
from .files import Files
from .ids import Ids
from .replies import Json, dumps
from .signatures import sign

# In the API's documentation: a prompt with it is answered by thinking that only the API can read.
_REDACT = "ANTHROPIC_MAGIC_STRING_TRIGGER_REDACTED_THINKING"


@dataclass(slots=True)
class Draft:
    """The content so far; `output_tokens` includes the `thinking_tokens`."""

    organization: Organization
    budget: int
    content: list[Json] = field(default_factory=list)
    output_tokens: int = 0
    thinking_tokens: int = 0
    searches: int = 0
    stop_reason: str = "end_turn"
    stop_sequence: str | None = None

    @property
    def full(self) -> bool:
        return self.stop_reason != "end_turn"

    def _spend(self, text: str) -> str:
        """As much of `text` as the budget allows."""
        pieces = prose.tokens(text)
        left = self.budget - self.output_tokens
        if len(pieces) > left:
            self.stop_reason = "max_tokens"
            pieces = pieces[:left]
        self.output_tokens += len(pieces)
        return "".join(pieces)

    def think(self, question: str, *, shown: bool) -> None:
        text = self._spend(prose.thought(question))
        self.thinking_tokens = self.output_tokens
        signature = sign(self.organization, text)
        if _REDACT in question:
            self.content.append({"type": "redacted_thinking", "data": signature})
        else:
            self.content.append(
                {"type": "thinking", "thinking": text if shown else "", "signature": signature}
            )

    def say(self, text: str, stops: list[str]) -> None:
        """`text`, up to the first of `stops` in it."""
        found = [(text.index(stop), stop) for stop in stops if stop and stop in text]
        if found:
            end, stop = min(found)
            said = self._spend(text[:end])
            if not self.full:
                self.stop_reason, self.stop_sequence = "stop_sequence", stop
        else:
            said = self._spend(text)
        if said:
            self.content.append({"type": "text", "text": said})

    def call(self, tool: Json, ids: Ids, *, forced: bool) -> None:
        """A call of the client's tool, after a word about it unless it is `forced`."""
        if not forced:
            self.say(f"I'll use {tool['name']} for that.", [])
        if self.full:
            return
        value = prose.plausible({"type": "object"} | tool["input_schema"])
        self._spend(dumps(value).decode())
        self.content.append(
            {"type": "tool_use", "id": ids.new("toolu"), "name": tool["name"], "input": value}
        )
        if not self.full:
            self.stop_reason = "tool_use"

    def search(self, question: str, ids: Ids) -> None:
        """A web search and its result, which the organization alone can send back."""
        query = " ".join(question.split()[:6])
        result = {
            "type": "web_search_result",
            "title": "Example",
            "url": "https://example.com/",
            "encrypted_content": sign(self.organization, query),
            "page_age": None,
        }
        self._serve("web_search", {"query": query}, "web_search_tool_result", [result], ids)
        self.searches += 1

    def run_code(self, files: Files, ids: Ids) -> None:
        """A command and the file that it made, which is the organization's like any other."""
        file_id = files.generate(self.organization, "table.csv", b"city,days\nParis,1\n")
        outcome = {
            "type": "bash_code_execution_result",
            "stdout": "table.csv\n",
            "stderr": "",
            "return_code": 0,
            "content": [{"type": "bash_code_execution_output", "file_id": file_id}],
        }
        command = {"command": "ls $OUTPUT_DIR"}
        self._serve("bash_code_execution", command, "bash_code_execution_tool_result", outcome, ids)

    def _serve(self, name: str, value: Json, kind: str, result: object, ids: Ids) -> None:
        """The server's own use of a tool, and what came of it."""
        use = ids.new("srvtoolu")
        self.content += [
            {"type": "server_tool_use", "id": use, "name": name, "input": value},
            {"type": kind, "tool_use_id": use, "content": result},
        ]
