"""What answers name that another request has made: the runs of deployments, their sessions, what a dream writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from proxy.simulator import Answer as Canned
from tests.service import CLIENT_KEY, MESSAGE_HEADERS, Service, kept_text, serve
from tests.wire import Answer

DEPLOYMENT, RUN, SESSION = (
    "depl_011CZkZcDH3vPqd7xnEf",
    "drun_012CZkZcDH3vPqd7xnEf",
    "sesn_013CZkZcDH3vPqd7xnEf",
)
DREAM, STORE = "drm_014CZkZcDH3vPqd7xnEf", "memstore_015CZkZcDH3vPqd7xnEf"
A_RUN = {
    "id": RUN,
    "type": "deployment_run",
    "deployment_id": DEPLOYMENT,
    "session_id": SESSION,
    "environment_id": "env_016CZkZcDH3vPqd7xnEf",
    "metadata": {"session_id": "sesn_017CZkZcDH3vPqd7xnEf"},
}
A_DREAM = {
    "id": DREAM,
    "type": "dream",
    "session_id": SESSION,
    "outputs": [{"type": "memory_store", "memory_store_id": STORE}],
}


def answers(service: Service, path: str, answer: Any) -> None:
    body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    canned = Canned(200, (("content-type", "application/json"),), body)
    service.simulator.always(None, canned, path=path)


async def send(service: Service, method: str, path: str, *, key: str = CLIENT_KEY) -> Answer:
    body = b"{}" if method == "POST" else None
    return await service.send(method, path, MESSAGE_HEADERS, body, key=key)


async def make(service: Service, collection: str, id: str, *, key: str = CLIENT_KEY) -> str:
    """Make one of a collection with this id; the name of the account that has it."""
    answers(service, f"/v1/{collection}", {"id": id})
    made = await send(service, "POST", f"/v1/{collection}", key=key)
    assert made.status == 200, made.body
    return str(made.header("x-proxy-account"))


async def found(service: Service, path: str, *, key: str = CLIENT_KEY) -> str | int:
    """The name of the account that answers for this path, or the status if it is not 200."""
    answer = await send(service, "GET", path, key=key)
    return str(answer.header("x-proxy-account")) if answer.status == 200 else answer.status


async def test_the_run_of_a_deployment_and_its_session_are_found_where_it_is(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=("a", "b")) as service:
        other = await service.add_key("other")
        where = await make(service, "deployments", DEPLOYMENT)
        answers(service, f"/v1/deployments/{DEPLOYMENT}/run", A_RUN)
        assert (await send(service, "POST", f"/v1/deployments/{DEPLOYMENT}/run")).json() == A_RUN
        assert RUN in (kept := kept_text(tmp_path, "resources")) and SESSION in kept
        answers(service, "/v1/sessions", {})
        answers(service, "/v1/deployment_runs", {"data": [A_RUN], "next_page": None})
        for path in (f"deployment_runs/{RUN}", f"sessions/{SESSION}", f"sessions/{SESSION}/events"):
            assert await found(service, f"/v1/{path}") == where
            assert await found(service, f"/v1/{path}", key=other) == 404
        assert (await send(service, "GET", "/v1/deployment_runs")).json()["data"] == [A_RUN]
        assert (await send(service, "GET", "/v1/deployment_runs", key=other)).json()["data"] == []


async def test_only_what_an_answer_has_made_is_learnt_of_it(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=("a", "b")) as service:
        await make(service, "deployments", DEPLOYMENT)
        answers(service, f"/v1/deployments/{DEPLOYMENT}/run", A_RUN)
        await send(service, "POST", f"/v1/deployments/{DEPLOYMENT}/run")
        resources = service.parts.affinity.resources
        assert {id for id in (DEPLOYMENT, RUN, SESSION) if resources.get(id)} == {DEPLOYMENT, RUN, SESSION}
        assert len(resources) == 3, (
            "an environment that it names may be everybody's; metadata is the client's"
        )


async def test_what_a_dream_has_made_is_found_once_it_says_so(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=("a", "b")) as service:
        where = await make(service, "dreams", DREAM)
        answers(service, f"/v1/dreams/{DREAM}", A_DREAM)
        for path in (f"memory_stores/{STORE}", f"sessions/{SESSION}"):
            assert await found(service, f"/v1/{path}") == 404
        assert await found(service, f"/v1/dreams/{DREAM}") == where
        for path in (f"memory_stores/{STORE}", f"sessions/{SESSION}"):
            answers(service, f"/v1/{path}", {})
            assert await found(service, f"/v1/{path}") == where


async def test_the_sessions_of_scheduled_runs_are_found_once_these_are_listed(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=("a", "b")) as service:
        where = await make(service, "deployments", DEPLOYMENT)
        answers(service, "/v1/deployment_runs", {"data": [A_RUN], "next_page": None})
        listed = await send(service, "GET", f"/v1/deployment_runs?deployment_id={DEPLOYMENT}")
        assert listed.json()["data"] == [A_RUN]
        answers(service, f"/v1/sessions/{SESSION}", {})
        assert await found(service, f"/v1/sessions/{SESSION}") == where


@pytest.mark.parametrize("isolation", ["per_key", "none"])
async def test_what_is_known_already_stays_with_whom_it_is(tmp_path: Path, isolation: str) -> None:
    async with serve(tmp_path, accounts=("a",), balancer__isolation=isolation) as service:
        other = await service.add_key("other")
        await make(service, "sessions", SESSION, key=other)
        await make(service, "deployments", DEPLOYMENT)
        resources = service.parts.affinity.resources
        before = resources.get(SESSION)
        answers(service, f"/v1/deployments/{DEPLOYMENT}/run", A_RUN)
        await send(
            service,
            "POST",
            f"/v1/deployments/{DEPLOYMENT}/run",
            key=CLIENT_KEY if isolation == "per_key" else other,
        )
        assert resources.get(SESSION) == before
        [run, deployment] = [resources.get(id) for id in (RUN, DEPLOYMENT)]
        assert run and deployment and run.group == deployment.group


async def test_what_lies_within_something_is_found_by_that_and_not_learnt(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=("a", "b")) as service:
        where = await make(service, "memory_stores", STORE)
        memory = f"/v1/memory_stores/{STORE}/memories"
        answers(service, memory, {"id": "mem_018CZkZcDH3vPqd7xnEf", "type": "memory"})
        assert (await send(service, "POST", memory)).status == 200
        assert len(service.parts.affinity.resources) == 1, "it would be kept when the store is long gone"
        assert await found(service, f"{memory}/mem_018CZkZcDH3vPqd7xnEf") == where


async def test_what_is_made_below_something_of_a_new_kind_is_known_until_it_is_deleted(
    tmp_path: Path,
) -> None:
    async with serve(tmp_path, accounts=("a", "b")) as service:
        where = await make(service, "gadgets", "gdgt_019CZkZcDH3vPqd7xnEf")
        below = "/v1/gadgets/gdgt_019CZkZcDH3vPqd7xnEf/parts"
        answers(service, below, {"id": "part_020CZkZcDH3vPqd7xnEf", "type": "part"})
        await send(service, "POST", below)
        answers(service, "/v1/parts", {})
        assert await found(service, "/v1/parts/part_020CZkZcDH3vPqd7xnEf") == where
        assert (await send(service, "DELETE", f"{below}/part_020CZkZcDH3vPqd7xnEf")).status == 200
        resources = service.parts.affinity.resources
        assert resources.get("part_020CZkZcDH3vPqd7xnEf") is None and len(resources) == 1


async def test_what_is_only_taken_out_of_something_stays_known(tmp_path: Path) -> None:
    async with serve(tmp_path, accounts=("a",)) as service:
        await make(service, "sessions", SESSION)
        await make(service, "files", "file_01made")
        below = f"/v1/sessions/{SESSION}/files/file_01made"
        answers(service, below, {})
        assert (await send(service, "DELETE", below)).status == 200
        assert service.parts.affinity.resources.get("file_01made")


@pytest.mark.parametrize(
    "target", ["/v1/files/file_01made/content", "/v1/deployments/depl_01unknown", "/v1/files/file_01made/x/y"]
)
async def test_what_clients_write_teaches_nothing(tmp_path: Path, target: str) -> None:
    async with serve(tmp_path, accounts=("a",)) as service:
        await make(service, "files", "file_01made")
        answers(service, target, A_RUN)
        assert (await send(service, "GET", target)).json() == A_RUN
        assert (await send(service, "POST", f"{target}/deeper")).json() == A_RUN
        assert len(service.parts.affinity.resources) == 1


ODD = (
    *(b"", b"[]", b'"x"', b"{", b'{"id":7,"outputs":{}}', b'{"id":"x","outputs":[1]}'),
    b'{"id":"drun_01made","session_id":"\xff"}',
)


@pytest.mark.parametrize("answer", ODD)
async def test_an_odd_answer_is_handed_on_and_teaches_nothing(tmp_path: Path, answer: bytes) -> None:
    async with serve(tmp_path, accounts=("a",)) as service:
        await make(service, "deployments", DEPLOYMENT)
        answers(service, f"/v1/deployments/{DEPLOYMENT}/run", answer)
        assert (await send(service, "POST", f"/v1/deployments/{DEPLOYMENT}/run")).body == answer
        assert len(service.parts.affinity.resources) == 1
