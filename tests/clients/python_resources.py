"""Calls what organizations have with the `anthropic` package, and prints what came of each call as JSON.

Runs in the package's own virtual environment; `ANTHROPIC_BASE_URL` and `ANTHROPIC_API_KEY` say where and as whom,
`OTHER_API_KEY` is a key of another organization. With `KEYS_IN_TURN` each request has the next of these keys in place
of the first, page by page of a list too. What a package does not have yet is left out.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

import anthropic
from calling import sign

MODEL = "claude-sonnet-5-5"
QUESTION: dict[str, Any] = {"role": "user", "content": "What is a façade — in 30 words?"}
CODE = {"type": "code_execution_20250825", "name": "code_execution"}
SKILL_FILES = [
    ("greeting/SKILL.md", b"---\nname: greeting\ndescription: How to greet\n---\n", "text/markdown")
]

client = anthropic.Anthropic(
    max_retries=0, http_client=anthropic.DefaultHttpxClient(event_hooks={"request": [sign]})
)
other = anthropic.Anthropic(api_key=os.environ["OTHER_API_KEY"], max_retries=0)


def ids(items: Any) -> list[str]:
    """Of every item of a list with pages."""
    return [item.id for item in items]


def foreign(call: Callable[..., Any], *args: Any, **more: Any) -> list[Any]:
    """What another organization is told: the error's class, and its text without the id."""
    try:
        return ["returned", str(call(*args, **more))]
    except anthropic.APIStatusError as error:
        return [type(error).__name__, error.body["error"]["message"].replace(str(args[0]), "ID")]


def about(file_id: str) -> dict[str, Any]:
    """A request about a file."""
    document = {"type": "document", "source": {"type": "file", "file_id": file_id}}
    question = {"type": "text", "text": "What is in it?"}
    messages = [{"role": "user", "content": [document, question]}]
    return {"model": MODEL, "max_tokens": 100, "messages": messages}


def files() -> Any:
    resource = getattr(client, "files", None) or client.beta.files
    theirs = getattr(other, "files", None) or other.beta.files
    made = [resource.upload(file=(f"{name}.txt", name.encode(), "text/plain")).id for name in "abc"]

    def ask(api: Any, file_id: str) -> Any:
        return api.beta.messages.create(**about(file_id), betas=["files-api-2025-04-14"])

    return {
        "listed": ids(resource.list(limit=2)) == made[::-1],
        "named": resource.retrieve_metadata(made[0]).filename,
        "content": resource.download(made[1]).read().decode(),
        "used": ask(client, made[2]).type,
        "counted": client.messages.count_tokens(model=MODEL, messages=about(made[2])["messages"]).input_tokens
        > 0,
        "foreign": foreign(theirs.retrieve_metadata, made[0]),
        "foreign content": foreign(theirs.download, made[0]),
        "foreign use": foreign(lambda file_id: ask(other, file_id), made[0]),
        "foreign deletion": foreign(theirs.delete, made[0]),
        "foreign list": ids(theirs.list()),
        "deleted": resource.delete(made[0]).type,
        "then": foreign(resource.retrieve_metadata, made[0]),
        "left": ids(resource.list()) == made[:0:-1],
    }


def batches() -> Any:
    resource, theirs = client.messages.batches, other.messages.batches
    file_id = (getattr(client, "files", None) or client.beta.files).upload(file=("a.txt", b"a")).id
    requests = [{"custom_id": "about", "params": about(file_id)}]
    made = [resource.create(requests=requests).id for _ in range(3)]
    canceling = resource.cancel(made[1]).processing_status
    return {
        "canceling": canceling,
        "ended": resource.retrieve(made[0]).processing_status,
        "results": [line.result.type for line in resource.results(made[0])],
        "canceled": [line.result.type for line in resource.results(made[1])],
        "listed": ids(resource.list(limit=2)) == made[::-1],
        "backwards": ids(resource.list(limit=1, before_id=made[0])) == made[1:],
        "foreign": foreign(theirs.retrieve, made[0]),
        "foreign results": foreign(theirs.results, made[0]),
        "foreign cancellation": foreign(theirs.cancel, made[2]),
        "foreign deletion": foreign(theirs.delete, made[0]),
        "foreign list": ids(theirs.list()),
        "deleted": resource.delete(made[0]).type,
        "left": ids(resource.list()) == made[:0:-1],
    }


def skills() -> Any:
    def use(api: Any, skill_id: str) -> Any:
        skill = {"type": "custom", "skill_id": skill_id, "version": "latest"}
        asked = {"model": MODEL, "max_tokens": 500, "messages": [QUESTION], "tools": [CODE]}
        return api.beta.messages.create(**asked, container={"skills": [skill]})

    resource = getattr(client, "skills", None) or client.beta.skills
    theirs = getattr(other, "skills", None) or other.beta.skills
    made = [resource.create(files=SKILL_FILES).id for _ in range(3)]
    second = resource.versions.create(made[0], files=SKILL_FILES)
    named = getattr(second, "version", second.id)
    found = {
        "listed": ids(resource.list(limit=2, source="custom")) == made[::-1],
        "versions": len(ids(resource.versions.list(made[0], limit=1))),
        "newest": resource.versions.retrieve(named, skill_id=made[0]).id == second.id,
        "used": use(client, made[0]).type,
        "foreign": foreign(theirs.retrieve, made[0]),
        "foreign use": foreign(lambda skill: use(other, skill), made[0]),
        "foreign list": ids(theirs.list(source="custom")),
    }
    found["deleted"] = resource.versions.delete(named, skill_id=made[0]).type
    return found


def containers() -> Any:
    asked = {"model": MODEL, "max_tokens": 500, "messages": [QUESTION], "tools": [CODE]}
    first = client.beta.messages.create(**asked)
    file_id = first.content[1].content.content[0].file_id
    again = client.beta.messages.create(**asked, container=first.container.id)
    with client.beta.messages.stream(**asked, container=first.container.id) as stream:
        streamed = stream.get_final_message()
    return {
        "stays": {first.container.id, again.container.id, streamed.container.id} == {first.container.id},
        "file": client.beta.files.download(file_id).read().decode(),
        "foreign": foreign(
            lambda container: other.beta.messages.create(**asked, container=container), first.container.id
        ),
        "foreign file": foreign(other.beta.files.retrieve_metadata, file_id),
    }


def thinking() -> Any:
    asked = {"model": MODEL, "max_tokens": 2000, "thinking": {"type": "enabled", "budget_tokens": 1024}}
    with client.messages.stream(**asked, messages=[QUESTION]) as stream:
        content = stream.get_final_message().content
    turns = [QUESTION, {"role": "assistant", "content": content}, QUESTION]
    kind = client.messages.create(**asked, messages=turns).type
    return {
        "own": kind,
        "foreign": foreign(lambda turns: other.messages.create(**asked, messages=turns), turns),
    }


def agents() -> Any:
    beta = client.beta
    made = [beta.agents.create(name="Ada", model=MODEL).id for _ in range(3)]
    changed = beta.agents.update(made[0], name="Bo", version=1)
    return {
        "listed": ids(beta.agents.list(limit=2)) == made[::-1],
        "changed": [changed.name, changed.version],
        "versions": [agent.version for agent in beta.agents.versions.list(made[0], limit=1)],
        "archived": beta.agents.archive(made[1]).archived_at is not None,
        "foreign": foreign(other.beta.agents.retrieve, made[0]),
        "foreign list": ids(other.beta.agents.list()),
    }


def environments() -> Any:
    resource = client.beta.environments
    made = [resource.create(name=name).id for name in "abc"]
    return {
        "listed": ids(resource.list(limit=2)) == made[::-1],
        "network": resource.retrieve(made[0]).config.networking.type,
        "renamed": resource.update(made[0], name="d").name,
        "deleted": resource.delete(made[1]).type,
        "foreign": foreign(other.beta.environments.retrieve, made[0]),
        "foreign list": ids(other.beta.environments.list()),
    }


def sessions() -> Any:
    beta, resource = client.beta, client.beta.sessions
    file_id = beta.files.upload(file=("a.txt", b"a")).id
    named = {"agent": beta.agents.create(name="Ada", model=MODEL).id}
    named["environment_id"] = beta.environments.create(name="here").id
    made = [resource.create(**named, resources=[{"type": "file", "file_id": file_id}]).id for _ in range(3)]
    heard: list[str] = []
    with resource.events.stream(made[0]) as stream:
        content = [{"type": "text", "text": "hello"}]
        sending = threading.Thread(
            target=lambda: resource.events.send(
                made[0], events=[{"type": "user.message", "content": content}]
            )
        )
        sending.start()
        for event in stream:
            heard.append(event.type)
            if event.type == "session.status_idle":
                break
        sending.join()
    second = resource.list(limit=1, page=resource.list(limit=1).next_page)
    back = resource.list(limit=1, page=second.prev_page)
    (thread,) = resource.threads.list(made[0])
    (mounted,) = resource.resources.list(made[0])
    return {
        "listed": ids(resource.list(limit=2)) == made[::-1],
        "pages": [[session.id for session in page.data] for page in (second, back)] == [[made[1]], [made[2]]],
        "heard": heard,
        "events": [event.type for event in resource.events.list(made[0], limit=2)] == heard,
        "thread events": [event.type for event in resource.threads.events.list(thread.id, session_id=made[0])]
        == heard,
        "resource": mounted.file_id == file_id,
        "removed": resource.resources.delete(mounted.id, session_id=made[0]).type,
        "archived": resource.archive(made[0]).status,
        "deleted": resource.delete(made[1]).type,
        "foreign": foreign(other.beta.sessions.retrieve, made[0]),
        "foreign list": ids(other.beta.sessions.list()),
        "foreign agent": foreign(lambda agent: other.beta.sessions.create(**named), named["agent"]),
    }


def vaults() -> Any:
    resource = client.beta.vaults
    vault = resource.create(display_name="keys").id
    auth = {"type": "static_bearer", "token": "t", "mcp_server_url": "https://example.com"}
    credential = resource.credentials.create(vault, auth=auth)
    return {
        "auth": resource.credentials.retrieve(credential.id, vault_id=vault).auth.type,
        "listed": [ids(resource.list()) == [vault], ids(resource.credentials.list(vault)) == [credential.id]],
        "foreign": foreign(other.beta.vaults.retrieve, vault),
        "foreign list": ids(other.beta.vaults.list()),
        "deleted": [
            resource.credentials.delete(credential.id, vault_id=vault).type,
            resource.delete(vault).type,
        ],
    }


def memory() -> Any:
    resource = client.beta.memory_stores
    store = resource.create(name="notes").id
    note = resource.memories.create(store, path="/a.md", content="remember").id
    return {
        "content": resource.memories.retrieve(note, memory_store_id=store).content,
        "listed": [ids(resource.list()) == [store], ids(resource.memories.list(store)) == [note]],
        "foreign": foreign(other.beta.memory_stores.retrieve, store),
        "foreign list": ids(other.beta.memory_stores.list()),
        "deleted": [resource.memories.delete(note, memory_store_id=store).type, resource.delete(store).type],
    }


def diagnostics() -> Any:
    asked = {"model": MODEL, "max_tokens": 100, "messages": [QUESTION]}
    first = client.messages.create(**asked, diagnostics={"previous_message_id": None})
    named = {"previous_message_id": first.id}
    changed = client.messages.create(**asked | {"system": "Be brief."}, diagnostics=named)
    lost = other.messages.create(**asked, diagnostics=named)
    return {
        "first": first.diagnostics,
        "changed": changed.diagnostics.cache_miss_reason.type,
        "foreign": lost.diagnostics.cache_miss_reason.type,
    }


def threads() -> Any:
    """The helper's turns: two with the thread, and one whose thread another organization does not have."""
    mover = anthropic.Anthropic(max_retries=0)
    thread = mover.beta.messages.thread(model=MODEL, max_tokens=100, system="Be brief.")
    sent = [thread.send({"role": "user", "content": word}).id for word in ("one", "two")]
    mover.api_key = os.environ["OTHER_API_KEY"]
    sent.append(thread.send({"role": "user", "content": "three"}).id)
    return {"ids": len(set(sent)), "messages": len(thread.messages)}


def tool_runner() -> Any:
    @anthropic.beta_tool
    def get_weather(city: str) -> str:
        """The weather in a city."""
        return f"18 °C in {city}"

    runner = client.beta.messages.tool_runner(
        model=MODEL, max_tokens=500, tools=[get_weather], messages=[{"role": "user", "content": "weather?"}]
    )
    return {"reasons": [message.stop_reason for message in runner]}


CALLS = [files, batches, skills, containers, thinking, agents, environments, sessions, vaults, memory]
NEW = [diagnostics, threads, tool_runner]

json.dump({call.__name__: call() for call in CALLS + (NEW if hasattr(client, "skills") else [])}, sys.stdout)
