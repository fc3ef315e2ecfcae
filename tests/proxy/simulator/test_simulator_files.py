"""Files and batches: resources that belong to one organization."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from simulator_wire import FakeClock, Wire

from proxy.simulator import Cut

OTHER = "sk-ant-api03-other"
BETA = "files-api-2025-04-14"
BOUNDARY = "bOuNdArY"


def form(content: bytes, filename: str = "a b.bin", **fields: str) -> bytes:
    parts = [
        f'Content-Disposition: form-data; name="{name}"\r\n\r\n{value}'.encode()
        for name, value in fields.items()
    ]
    head = (
        f'Content-Disposition: form-data; name="file"; filename="{filename}"\r\nContent-Type: text/x\r\n\r\n'
    )
    parts.append(head.encode() + content)
    return b"".join(f"--{BOUNDARY}\r\n".encode() + part + b"\r\n" for part in parts) + (
        f"--{BOUNDARY}--\r\n".encode()
    )


async def upload(wire: Wire, content: bytes, *, beta: str = "", **fields: str) -> Any:
    response = await wire.send(
        "POST",
        "/v1/files",
        form(content, **fields),
        content_type=f"multipart/form-data; boundary={BOUNDARY}",
        anthropic_beta=beta,
    )
    return json.loads(response.body)


@pytest.fixture
def other(wire: Wire) -> str:
    wire.sim.add_api_key(OTHER, organization="Other")
    return OTHER


@pytest.mark.parametrize("size", [0, 5, 3_000_000])
async def test_a_file_comes_back_as_it_went(wire: Wire, size: int) -> None:
    content = (b"\r\n--bOuNdAr\x00\xff" * (size // 10 + 1))[:size]
    file = await upload(wire, content)
    assert (file["filename"], file["mime_type"], file["size_bytes"]) == ("a b.bin", "text/x", size)
    back = await wire.get(f"/v1/files/{file['id']}/content")
    assert (back.body, back.headers["content-type"]) == (content, "text/x")


async def test_a_delimiter_over_the_edge_of_a_chunk_is_found(wire: Wire) -> None:
    head = len(form(b"")) - len(f"\r\n--{BOUNDARY}--\r\n")
    for shift in (1, 5, 11):
        content = b"x" * ((1 << 20) - head - shift)
        assert (await upload(wire, content))["size_bytes"] == len(content)


async def test_a_large_upload_is_hashed_but_not_kept_in_the_ledger(wire: Wire) -> None:
    body = form(b"x" * 2_000_000)
    await upload(wire, b"x" * 2_000_000)
    entry = wire.sim.ledger[0]
    assert (entry.body_length, entry.body) == (len(body), None)
    assert entry.body_sha256 == hashlib.sha256(body).hexdigest()


async def test_a_download_can_be_cut(wire: Wire) -> None:
    file = await upload(wire, b"x" * 1_000_000)
    wire.sim.script(None, Cut(after_bytes=300_000))
    assert (await wire.get(f"/v1/files/{file['id']}/content")).code == 599
    assert wire.sim.ledger[-1].bytes_sent == 300_000


async def test_a_deleted_file_is_gone(wire: Wire) -> None:
    path = f"/v1/files/{(await upload(wire, b'x'))['id']}"
    assert json.loads((await wire.send("DELETE", path)).body)["type"] == "file_deleted"
    assert (await wire.get(path)).code == 404


async def test_a_file_expires(wire: Wire, clock: FakeClock) -> None:
    file = await upload(wire, b"x", expires_in_seconds="3600")
    clock.wall += 3600
    response = await wire.get(f"/v1/files/{file['id']}")
    assert json.loads(response.body)["error"]["details"] == {"error_code": "file_expired"}


async def test_files_are_listed_by_page_or_by_id(wire: Wire) -> None:
    ids = [(await upload(wire, b"x"))["id"] for _ in range(3)][::-1]
    first = json.loads((await wire.get("/v1/files?limit=2")).body)
    second = json.loads((await wire.get(f"/v1/files?limit=2&page={first['next_page']}")).body)
    assert [file["id"] for file in first["data"] + second["data"]] == ids
    assert second["next_page"] is None
    chosen = json.loads((await wire.get(f"/v1/files?ids[]={ids[1]}&ids[]=file_x")).body)
    assert [file["id"] for file in chosen["data"]] == [ids[1]]
    beta = json.loads((await wire.get("/v1/files?limit=1", anthropic_beta=BETA)).body)
    assert (beta["has_more"], beta["last_id"]) == (True, ids[0])


@pytest.mark.parametrize(
    "body", [b"", b"--bOuNdArY\r\n", form(b"x")[:-20], form(b"x").replace(b'"file"', b'"field"')]
)
async def test_a_malformed_upload_is_refused(wire: Wire, body: bytes) -> None:
    response = await wire.send(
        "POST", "/v1/files", body, content_type=f"multipart/form-data; boundary={BOUNDARY}"
    )
    assert response.code == 400


async def test_a_message_may_name_a_file_of_its_organization_only(wire: Wire, other: str) -> None:
    file = await upload(wire, b"x")
    source = {"type": "file", "file_id": file["id"]}
    messages = [{"role": "user", "content": [{"type": "document", "source": source}]}]
    assert (await wire.post_message(more={"messages": messages})).code == 200
    refused = await wire.post_message(more={"messages": messages}, credential=other)
    assert refused.code == 404 and file["id"].encode() in refused.body


async def test_files_and_batches_of_another_organization_do_not_exist(wire: Wire, other: str) -> None:
    file, batch = await upload(wire, b"x"), await create(wire, "one")
    for path in (f"/v1/files/{file['id']}", f"/v1/messages/batches/{batch['id']}"):
        assert (await wire.get(path, credential=other)).code == 404
        assert (await wire.send("DELETE", path, credential=other)).code == 404
    for path in ("/v1/files", "/v1/messages/batches"):
        assert json.loads((await wire.get(path, credential=other)).body)["data"] == []


async def create(wire: Wire, *custom_ids: str, model: str = "claude-opus-5-5") -> Any:
    params = {"model": model, "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
    requests = [{"custom_id": name, "params": params} for name in custom_ids]
    return json.loads((await wire.send("POST", "/v1/messages/batches", {"requests": requests})).body)


async def test_a_batch_has_ended_when_it_is_looked_at(wire: Wire) -> None:
    batch = await create(wire, "one", "two")
    assert (batch["processing_status"], batch["request_counts"]["processing"]) == ("in_progress", 2)
    assert batch["results_url"] is None
    ended = json.loads((await wire.get(f"/v1/messages/batches/{batch['id']}")).body)
    assert (ended["processing_status"], ended["request_counts"]["succeeded"]) == ("ended", 2)
    assert ended["results_url"] == f"{wire.sim.base_url}/v1/messages/batches/{batch['id']}/results"


async def test_results_are_lines_of_json(wire: Wire) -> None:
    path = f"/v1/messages/batches/{(await create(wire, 'one', 'two'))['id']}"
    assert (await wire.get(f"{path}/results")).code == 404
    await wire.get(path)
    lines = [json.loads(line) for line in (await wire.get(f"{path}/results")).body.splitlines()]
    assert [line["custom_id"] for line in lines] == ["one", "two"]
    assert lines[0]["result"]["message"]["usage"]["service_tier"] == "batch"


async def test_a_wrong_request_of_a_batch_is_its_own_error(wire: Wire) -> None:
    path = f"/v1/messages/batches/{(await create(wire, 'one', model='nope'))['id']}"
    assert json.loads((await wire.get(path)).body)["request_counts"]["errored"] == 1
    line = json.loads((await wire.get(f"{path}/results")).body)
    assert line["result"]["error"]["error"]["type"] == "not_found_error"


async def test_a_canceled_batch_ends_canceled(wire: Wire) -> None:
    path = f"/v1/messages/batches/{(await create(wire, 'one'))['id']}"
    assert (await wire.send("DELETE", path)).code == 400
    canceled = await wire.send("POST", f"{path}/cancel")
    assert json.loads(canceled.body)["processing_status"] == "canceling"
    assert json.loads((await wire.get(path)).body)["request_counts"]["canceled"] == 1
    assert json.loads((await wire.send("DELETE", path)).body)["type"] == "message_batch_deleted"


async def test_results_may_lie_under_another_origin(make_wire: Callable[..., Wire]) -> None:
    wire = make_wire(public_url="https://api.anthropic.com")
    batch = await create(wire, "one")
    ended = json.loads((await wire.get(f"/v1/messages/batches/{batch['id']}")).body)
    assert ended["results_url"].startswith("https://api.anthropic.com/v1/messages/batches/")


async def test_batches_are_listed_newest_first(wire: Wire) -> None:
    ids = [(await create(wire, "one"))["id"] for _ in range(3)]
    page = json.loads((await wire.get("/v1/messages/batches?limit=2")).body)
    assert [batch["id"] for batch in page["data"]] == ids[:0:-1] and page["has_more"]
