"""Files and batches: resources that belong to one organization."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from proxy.simulator import Cut
from tests import wire
from tests.proxy.simulator.http import Client, FakeClock
from tests.proxy.simulator.uploads import BOUNDARY, FORM, form

OTHER = "sk-ant-api03-other"
BETA = "files-api-2025-04-14"


def file_form(content: bytes, filename: str = "a b.bin", **fields: str) -> bytes:
    return form(("file", filename, content), **fields)


async def upload(client: Client, content: bytes, *, beta: str = "", **fields: str) -> Any:
    response = await client.send(
        "POST",
        "/v1/files",
        file_form(content, **fields),
        content_type=FORM,
        anthropic_beta=beta,
    )
    return response.json()


@pytest.fixture
def other(client: Client) -> str:
    client.sim.add_api_key(OTHER, organization="Other")
    return OTHER


@pytest.mark.parametrize("size", [0, 5, 3_000_000])
async def test_a_file_comes_back_as_it_went(client: Client, size: int) -> None:
    content = (b"\r\n--bOuNdAr\x00\xff" * (size // 10 + 1))[:size]
    file = await upload(client, content)
    assert (file["filename"], file["mime_type"], file["size_bytes"]) == ("a b.bin", "text/x", size)
    back = await client.get(f"/v1/files/{file['id']}/content")
    assert (back.body, back.header("content-type")) == (content, "text/x")


async def test_a_delimiter_over_the_edge_of_a_chunk_is_found(client: Client) -> None:
    head = len(file_form(b"")) - len(f"\r\n--{BOUNDARY}--\r\n")
    for shift in (1, 5, 11):
        content = b"x" * ((1 << 20) - head - shift)
        assert (await upload(client, content))["size_bytes"] == len(content)


async def test_a_large_upload_is_hashed_but_not_kept_in_the_ledger(client: Client) -> None:
    body = file_form(b"x" * 2_000_000)
    await upload(client, b"x" * 2_000_000)
    entry = client.sim.ledger[0]
    assert (entry.body_length, entry.body) == (len(body), None)
    assert entry.body_sha256 == hashlib.sha256(body).hexdigest()


async def test_a_download_can_be_cut(client: Client) -> None:
    file = await upload(client, b"x" * 1_000_000)
    client.sim.script(None, Cut(after_bytes=300_000))
    with pytest.raises(wire.Cut):
        await client.get(f"/v1/files/{file['id']}/content")
    assert client.sim.ledger[-1].bytes_sent == 300_000


async def test_a_deleted_file_is_gone(client: Client) -> None:
    path = f"/v1/files/{(await upload(client, b'x'))['id']}"
    assert (await client.send("DELETE", path)).json()["type"] == "file_deleted"
    assert (await client.get(path)).status == 404


async def test_a_file_expires(client: Client, clock: FakeClock) -> None:
    file = await upload(client, b"x", expires_in_seconds="3600")
    clock.wall += 3600
    response = await client.get(f"/v1/files/{file['id']}")
    assert response.json()["error"]["details"] == {"error_code": "file_expired"}


async def test_files_are_listed_by_page_or_by_id(client: Client) -> None:
    ids = [(await upload(client, b"x"))["id"] for _ in range(3)][::-1]
    first = (await client.get("/v1/files?limit=2")).json()
    second = (await client.get(f"/v1/files?limit=2&page={first['next_page']}")).json()
    assert [file["id"] for file in first["data"] + second["data"]] == ids
    assert second["next_page"] is None
    chosen = (await client.get(f"/v1/files?ids[]={ids[1]}&ids[]=file_x")).json()
    assert [file["id"] for file in chosen["data"]] == [ids[1]]
    beta = (await client.get("/v1/files?limit=1", anthropic_beta=BETA)).json()
    assert (beta["has_more"], beta["last_id"]) == (True, ids[0])


@pytest.mark.parametrize(
    "body", [b"", b"--bOuNdArY\r\n", file_form(b"x")[:-20], file_form(b"x").replace(b'"file"', b'"field"')]
)
async def test_a_malformed_upload_is_refused(client: Client, body: bytes) -> None:
    response = await client.send("POST", "/v1/files", body, content_type=FORM)
    assert response.status == 400


async def test_a_message_may_name_a_file_of_its_organization_only(client: Client, other: str) -> None:
    file = await upload(client, b"x")
    source = {"type": "file", "file_id": file["id"]}
    messages = [{"role": "user", "content": [{"type": "document", "source": source}]}]
    assert (await client.message(more={"messages": messages})).status == 200
    refused = await client.message(more={"messages": messages}, credential=other)
    assert refused.status == 404 and file["id"].encode() in refused.body


async def test_files_and_batches_of_another_organization_do_not_exist(client: Client, other: str) -> None:
    file, batch = await upload(client, b"x"), await create(client, "one")
    for path in (f"/v1/files/{file['id']}", f"/v1/messages/batches/{batch['id']}"):
        assert (await client.get(path, credential=other)).status == 404
        assert (await client.send("DELETE", path, credential=other)).status == 404
    for path in ("/v1/files", "/v1/messages/batches"):
        assert (await client.get(path, credential=other)).json()["data"] == []


async def create(client: Client, *custom_ids: str, model: str = "claude-opus-5-5") -> Any:
    params = {"model": model, "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
    requests = [{"custom_id": name, "params": params} for name in custom_ids]
    return (await client.send("POST", "/v1/messages/batches", {"requests": requests})).json()


async def test_a_batch_has_ended_when_it_is_looked_at(client: Client) -> None:
    batch = await create(client, "one", "two")
    assert (batch["processing_status"], batch["request_counts"]["processing"]) == ("in_progress", 2)
    assert batch["results_url"] is None
    ended = (await client.get(f"/v1/messages/batches/{batch['id']}")).json()
    assert (ended["processing_status"], ended["request_counts"]["succeeded"]) == ("ended", 2)
    assert ended["results_url"] == f"{client.sim.base_url}/v1/messages/batches/{batch['id']}/results"


async def test_results_are_lines_of_json(client: Client) -> None:
    path = f"/v1/messages/batches/{(await create(client, 'one', 'two'))['id']}"
    assert (await client.get(f"{path}/results")).status == 404
    await client.get(path)
    lines = [json.loads(line) for line in (await client.get(f"{path}/results")).body.splitlines()]
    assert [line["custom_id"] for line in lines] == ["one", "two"]
    assert lines[0]["result"]["message"]["usage"]["service_tier"] == "batch"


async def test_a_wrong_request_of_a_batch_is_its_own_error(client: Client) -> None:
    path = f"/v1/messages/batches/{(await create(client, 'one', model='nope'))['id']}"
    assert (await client.get(path)).json()["request_counts"]["errored"] == 1
    line = (await client.get(f"{path}/results")).json()
    assert line["result"]["error"]["error"]["type"] == "not_found_error"


async def test_a_canceled_batch_ends_canceled(client: Client) -> None:
    path = f"/v1/messages/batches/{(await create(client, 'one'))['id']}"
    assert (await client.send("DELETE", path)).status == 400
    canceled = await client.send("POST", f"{path}/cancel")
    assert canceled.json()["processing_status"] == "canceling"
    assert (await client.get(path)).json()["request_counts"]["canceled"] == 1
    assert (await client.send("DELETE", path)).json()["type"] == "message_batch_deleted"


async def test_results_may_lie_under_another_origin(make_client: Callable[..., Awaitable[Client]]) -> None:
    client = await make_client(public_url="https://api.anthropic.com")
    batch = await create(client, "one")
    ended = (await client.get(f"/v1/messages/batches/{batch['id']}")).json()
    assert ended["results_url"].startswith("https://api.anthropic.com/v1/messages/batches/")


async def test_batches_are_listed_newest_first(client: Client) -> None:
    ids = [(await create(client, "one"))["id"] for _ in range(3)]
    page = (await client.get("/v1/messages/batches?limit=2")).json()
    assert [batch["id"] for batch in page["data"]] == ids[:0:-1] and page["has_more"]
