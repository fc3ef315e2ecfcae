"""Skills and their versions, in the present shape and the former one."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import pytest

from tests.proxy.simulator.http import Client, FakeClock
from tests.proxy.simulator.uploads import FORM, form, new_skill, skill_form

BETA = {"anthropic_beta": "skills-2025-10-02"}


async def test_a_skill_has_the_documented_members(client: Client) -> None:
    skill = await new_skill(client)
    assert set(skill) == {
        "type", "id", "display_name", "source", "latest_version_id", "created_at", "updated_at",
    }  # fmt: skip
    assert (skill["display_name"], skill["source"]) == ("greeting", {"type": "custom"})
    assert (await client.get(f"/v1/skills/{skill['id']}")).json() == skill
    versions = (await client.get(f"/v1/skills/{skill['id']}/versions")).json()["data"]
    assert [version["id"] for version in versions] == [skill["latest_version_id"]]
    assert set(versions[0]) == {"type", "id", "skill_id", "name", "description", "created_at"}
    assert versions[0]["description"] == "How to greet"


async def test_the_former_shape_counts_versions(client: Client) -> None:
    skill = await new_skill(client, **BETA)
    assert (skill["display_title"], skill["source"]) == ("greeting", "custom")
    path = f"/v1/skills/{skill['id']}"
    version = (await client.get(f"{path}/versions/{skill['latest_version']}", **BETA)).json()
    assert version["id"].startswith("skill_version_") and version["directory"] == "greeting"
    assert version["version"] == skill["latest_version"]
    refused = await client.send("DELETE", path, **BETA)
    assert (refused.status, "existing versions" in refused.json()["error"]["message"]) == (400, True)
    gone = await client.send("DELETE", f"{path}/versions/{skill['latest_version']}", **BETA)
    assert gone.json() == {"type": "skill_version_deleted", "id": skill["latest_version"]}
    assert (await client.send("DELETE", path, **BETA)).json() == {"type": "skill_deleted", "id": skill["id"]}


async def test_a_version_follows_another_and_the_only_one_stays(client: Client, clock: FakeClock) -> None:
    skill = await new_skill(client)
    path, first = f"/v1/skills/{skill['id']}", skill["latest_version_id"]
    refused = await client.send("DELETE", f"{path}/versions/{first}")
    assert (refused.status, "only version" in refused.json()["error"]["message"]) == (400, True)
    clock.wall += 1
    second = (await client.send("POST", f"{path}/versions", skill_form(), content_type=FORM)).json()
    assert (await client.get(f"{path}/versions/latest")).json() == second
    assert (await client.get(path)).json()["latest_version_id"] == second["id"]
    assert (await client.send("DELETE", f"{path}/versions/{first}")).json()["id"] == first
    assert (await client.get(f"{path}/versions/{first}")).status == 404


async def test_a_skill_takes_its_versions_with_it(client: Client) -> None:
    skill = await new_skill(client)
    path = f"/v1/skills/{skill['id']}"
    assert (await client.send("DELETE", path)).status == 200
    for gone in (path, f"{path}/versions", f"{path}/versions/{skill['latest_version_id']}"):
        answer = await client.get(gone)
        assert (answer.status, answer.json()["error"]["message"]) == (404, f"Skill not found: {skill['id']}")


async def test_its_content_comes_back_as_an_archive(client: Client) -> None:
    skill = await new_skill(client)
    answer = await client.get(f"/v1/skills/{skill['id']}/versions/{skill['latest_version_id']}/content")
    with zipfile.ZipFile(io.BytesIO(answer.body)) as archive:
        assert archive.read("greeting/words.txt") == b"hello"


async def test_skills_are_listed_in_pages_the_newest_first_and_by_source(client: Client) -> None:
    ids = [(await new_skill(client))["id"] for _ in range(3)][::-1]
    first = (await client.get("/v1/skills?limit=2&source=custom")).json()
    await new_skill(client)  # a page stays what it is
    second = (await client.get(f"/v1/skills?limit=2&source=custom&page={first['next_page']}")).json()
    assert [skill["id"] for skill in first["data"] + second["data"]] == ids
    assert second["next_page"] is None and "has_more" not in first
    premade = (await client.get("/v1/skills?source=anthropic")).json()["data"]
    assert {skill["id"] for skill in premade} == {"pdf", "docx", "pptx", "xlsx"}
    former = (await client.get("/v1/skills?limit=1", **BETA)).json()
    assert former["has_more"] is True
    bad = await client.get("/v1/skills?page=bogus")
    assert (bad.status, bad.json()["error"]["message"]) == (400, "page is not a valid page token.")


@pytest.mark.parametrize(
    "body",
    [
        form(("files", "a/SKILL.md", b"")),
        form(display_name="x"),
        form(("files[]", "a/b", b"")),
        skill_form(display_name="x" * 256),
    ],
)
async def test_an_upload_that_is_no_skill_is_refused(client: Client, body: bytes) -> None:
    assert (await client.send("POST", "/v1/skills", body, content_type=FORM)).status == 400


async def test_a_name_can_be_given_and_changed(client: Client) -> None:
    upload = skill_form(display_name="Hi")
    skill = (await client.send("POST", "/v1/skills", upload, content_type=FORM)).json()
    assert skill["display_name"] == "Hi"
    renamed = await client.send("POST", f"/v1/skills/{skill['id']}", {"display_name": "Hello"})
    assert renamed.json()["display_name"] == "Hello"


@pytest.mark.parametrize(
    ("skill", "status"),
    [
        ({"type": "anthropic", "skill_id": "xlsx", "version": "latest"}, 200),
        ({"type": "anthropic", "skill_id": "xlsx", "version": "20251002"}, 200),
        ({"type": "anthropic", "skill_id": "none"}, 404),
        ({"type": "custom", "skill_id": "xlsx"}, 404),
    ],
)
async def test_a_container_has_the_skills_that_exist(
    client: Client, skill: dict[str, Any], status: int
) -> None:
    code = {"type": "code_execution_20250825", "name": "code_execution"}
    answer = await client.message(more={"tools": [code], "container": {"skills": [skill]}})
    assert answer.status == status
    assert status == 404 or answer.json()["container"]["skills"] == [{"version": "latest"} | skill]
