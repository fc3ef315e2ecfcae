"""What holds for every storage; an implementation joins through the fixture `open_storage`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import pytest

from proxy.storage.protocols import Kind, Outdated, Storage

DURABLE: list[Kind] = ["accounts", "tokens"]
DISPOSABLE: list[Kind] = ["counters", "sessions", "quota"]
RECORDS = {
    "empty": {},
    "every-type": {
        "text": "é\u2028\x00😀",
        "number": -1.5e300,
        "whole": 2**60,
        "none": None,
        "yes": True,
        "list": [{}],
    },
}

every_durable_kind = pytest.mark.parametrize("kind", DURABLE)
every_disposable_kind = pytest.mark.parametrize("kind", DISPOSABLE)


@pytest.mark.parametrize("kind", DURABLE + DISPOSABLE)
async def test_a_new_storage_is_empty(storage: Storage, kind: Kind) -> None:
    assert await storage.load(kind) == {}
    assert not storage.notices


@every_durable_kind
async def test_what_was_put_is_there_after_reopening(open_storage: Callable[[], Storage], kind: Kind) -> None:
    storage = open_storage()
    for id, record in RECORDS.items():
        await storage.put(kind, id, record)
    assert await storage.load(kind) == RECORDS
    await storage.close()
    again = open_storage()
    assert await again.load(kind) == RECORDS
    assert not again.notices


@every_durable_kind
async def test_new_records_are_there_together_after_reopening(
    open_storage: Callable[[], Storage], kind: Kind
) -> None:
    storage = open_storage()
    many = {f"n{n}": {"n": n} for n in range(1200)} if kind == "tokens" else RECORDS
    await storage.put_new(kind, many)
    assert await storage.load(kind) == many
    await storage.put(kind, "one-more", {}, known=0)
    first = next(iter(many))
    generation = (await storage.get(kind, first)).generation
    await storage.put(kind, first, {"n": 2}, known=generation)
    await storage.close()
    again = open_storage()
    assert await again.load(kind) == many | {"one-more": {}, first: {"n": 2}}
    assert not again.notices


@every_durable_kind
async def test_new_records_replace_none_that_is_there(storage: Storage, kind: Kind) -> None:
    await storage.put(kind, "a", {"n": 1})
    with pytest.raises(Outdated):
        await storage.put_new(kind, {"a": {"n": 2}})
    assert await storage.load(kind) == {"a": {"n": 1}}


@every_durable_kind
async def test_what_was_deleted_is_gone_after_reopening(
    open_storage: Callable[[], Storage], kind: Kind
) -> None:
    storage = open_storage()
    await storage.put(kind, "a", {"n": 1})
    await storage.put(kind, "a", {"n": 2})
    await storage.put(kind, "b", {"n": 3})
    await storage.delete(kind, "a")
    assert await storage.load(kind) == {"b": {"n": 3}}
    await storage.close()
    assert await open_storage().load(kind) == {"b": {"n": 3}}


@every_durable_kind
async def test_deleting_what_is_not_there_is_done_already(storage: Storage, kind: Kind) -> None:
    await storage.delete(kind, "a")
    assert await storage.load(kind) == {}


@every_disposable_kind
async def test_an_update_sets_and_removes_what_it_names(
    open_storage: Callable[[], Storage], kind: Kind
) -> None:
    storage = open_storage()
    await storage.update(kind, {"a": {"n": 1}, "b": {"n": 2}, "c": {"n": 3}})
    await storage.update(kind, {"a": None, "b": {"n": 4}, "nobody": None})
    assert await storage.load(kind) == {"b": {"n": 4}, "c": {"n": 3}}
    await storage.close()
    assert await open_storage().load(kind) == {"b": {"n": 4}, "c": {"n": 3}}


@every_disposable_kind
async def test_an_update_that_cannot_be_read_back_changes_nothing(storage: Storage, kind: Kind) -> None:
    await storage.update(kind, {"a": {"n": 1}})
    with pytest.raises(ValueError, match="not JSON compliant"):
        await storage.update(kind, {"a": {"n": 2}, "b": {"n": float("nan")}})
    assert await storage.load(kind) == {"a": {"n": 1}}


@every_durable_kind
async def test_writes_take_effect_in_the_order_of_the_calls(storage: Storage, kind: Kind) -> None:
    calls = [
        storage.put(kind, "a", {"n": 1}),
        storage.put(kind, "a", {"n": 2}),
        storage.delete(kind, "b"),
        storage.put(kind, "b", {"n": 3}),
        storage.put(kind, "c", {"n": 4}),
        storage.delete(kind, "c"),
    ]
    await asyncio.gather(*reversed(calls))
    assert await storage.load(kind) == {"a": {"n": 2}, "b": {"n": 3}}


@every_durable_kind
async def test_a_record_is_taken_down_at_the_call(storage: Storage, kind: Kind) -> None:
    record = {"list": [1]}
    put = storage.put(kind, "a", record)
    record["list"].append(2)
    await put
    assert await storage.load(kind) == {"a": {"list": [1]}}


async def test_what_was_loaded_is_the_callers_own(storage: Storage) -> None:
    await storage.put("accounts", "a", {"list": [1]})
    (await storage.load("accounts"))["a"]["list"].append(2)
    assert await storage.load("accounts") == {"a": {"list": [1]}}


@every_durable_kind
async def test_cancelling_a_caller_does_not_cancel_its_write(storage: Storage, kind: Kind) -> None:
    first = asyncio.ensure_future(storage.put(kind, "a", {"n": 1}))
    second = asyncio.ensure_future(storage.put(kind, "a", {"n": 2}))
    await asyncio.sleep(0)  # both have started to wait
    first.cancel()
    second.cancel()
    assert await asyncio.gather(first, second, return_exceptions=True)
    assert await storage.load(kind) == {"a": {"n": 2}}


async def test_closing_finishes_what_was_ordered(open_storage: Callable[[], Storage]) -> None:
    storage = open_storage()
    puts = [storage.put("accounts", f"a{n}", {"n": n}) for n in range(5)]
    await storage.close()
    await asyncio.gather(*puts)
    assert len(await open_storage().load("accounts")) == 5


async def test_closing_twice_is_closing_once(storage: Storage) -> None:
    await storage.close()
    await storage.close()


@pytest.mark.parametrize("id", ["", "a.b", "../a", "a/b", "a\n", "é", "a" * 65])
async def test_an_id_that_could_be_a_path_is_refused(storage: Storage, id: str) -> None:
    with pytest.raises(ValueError, match="will not do as an id"):
        await storage.put("accounts", id, {})
    with pytest.raises(ValueError, match="will not do as an id"):
        await storage.delete("tokens", id)
    with pytest.raises(ValueError, match="will not do as an id"):
        await storage.update("counters", {id: {}})


@pytest.mark.parametrize(
    "record",
    [
        {"n": float("nan")},
        {"n": float("inf")},
        {"text": "\ud800"},
        {1: "a", "1": "b"},
        {"set": {1}},
        [1],
        "text",
    ],
    ids=repr,
)
async def test_what_could_not_be_read_back_is_not_written(storage: Storage, record: object) -> None:
    await storage.put("accounts", "a", {"n": 1})
    with pytest.raises((ValueError, TypeError)):
        await storage.put("accounts", "a", record)  # type: ignore[arg-type]
    assert await storage.load("accounts") == {"a": {"n": 1}}


async def test_each_kind_has_its_own_verbs(storage: Storage) -> None:
    with pytest.raises(ValueError, match="counters is not durable: use update"):
        await storage.put("counters", "a", {})
    with pytest.raises(ValueError, match="sessions is not durable"):
        await storage.delete("sessions", "a")
    with pytest.raises(ValueError, match="accounts is durable: use put"):
        await storage.update("accounts", {})


LINES = list(RECORDS.values())


async def test_a_new_storage_has_no_logs(storage: Storage) -> None:
    assert await storage.logs() == []
    assert await storage.read_log("a") == []


async def test_what_was_appended_is_there_after_reopening(open_storage: Callable[[], Storage]) -> None:
    storage = open_storage()
    await storage.append("b", LINES)
    await storage.append("a", [{"n": 1}])
    await storage.append("b", [{"n": 2}])
    await storage.close()
    storage = open_storage()
    assert await storage.logs() == ["a", "b"]
    assert await storage.read_log("a") == [{"n": 1}]
    assert await storage.read_log("b") == [*LINES, {"n": 2}]
    assert not storage.notices


async def test_replacing_a_log_sets_all_its_lines(open_storage: Callable[[], Storage]) -> None:
    storage = open_storage()
    await storage.append("a", [{"n": 1}, {"n": 2}])
    await storage.replace_log("a", [{"n": 3}])
    await storage.append("a", [{"n": 4}])
    assert await storage.read_log("a") == [{"n": 3}, {"n": 4}]
    await storage.close()
    assert await open_storage().read_log("a") == [{"n": 3}, {"n": 4}]


async def test_a_removed_log_is_gone_and_may_begin_anew(open_storage: Callable[[], Storage]) -> None:
    storage = open_storage()
    await storage.append("a", [{"n": 1}])
    await storage.remove_log("a")
    assert await storage.logs() == []
    await storage.append("a", [{"n": 2}])
    await storage.close()
    assert await open_storage().read_log("a") == [{"n": 2}]


async def test_removing_a_log_that_is_not_there_is_done_already(storage: Storage) -> None:
    await storage.remove_log("a")
    assert await storage.logs() == []


async def test_writes_to_a_log_take_effect_in_the_order_of_the_calls(storage: Storage) -> None:
    calls = [
        storage.append("a", [{"n": 1}]),
        storage.replace_log("a", [{"n": 2}]),
        storage.append("a", [{"n": 3}]),
        storage.append("b", [{"n": 4}]),
        storage.remove_log("b"),
    ]
    await asyncio.gather(*reversed(calls))
    assert await storage.read_log("a") == [{"n": 2}, {"n": 3}]
    assert await storage.logs() == ["a"]


async def test_cancelling_a_caller_does_not_cancel_its_lines(storage: Storage) -> None:
    append = asyncio.ensure_future(storage.append("a", [{"n": 1}]))
    await asyncio.sleep(0)  # it has started to wait
    append.cancel()
    assert await asyncio.gather(append, return_exceptions=True)
    assert await storage.read_log("a") == [{"n": 1}]


async def test_each_line_is_handed_over_in_order_as_it_is_in_the_log(storage: Storage) -> None:
    await storage.append("a", LINES)
    await storage.append("a", [{"n": 1}])
    lines: list[bytes] = []
    await storage.each_line("a", lines.append)
    assert [json.loads(line) for line in lines] == [*LINES, {"n": 1}]
    assert not any(b"\n" in line for line in lines)


async def test_a_log_that_is_not_there_has_no_line(storage: Storage) -> None:
    lines: list[bytes] = []
    await storage.each_line("a", lines.append)
    await storage.each_line("resources", lines.append)
    assert lines == []


async def test_a_line_that_its_taker_cannot_read_is_left_out_and_the_next_ones_come(storage: Storage) -> None:
    await storage.append("a", [{"n": 1}, {"x": 2}, {"n": 3}])
    numbers: list[int] = []

    def take(line: bytes) -> None:
        if "n" not in (record := json.loads(line)):
            raise ValueError("n is missing")
        numbers.append(record["n"])

    await storage.each_line("a", take)
    assert numbers == [1, 3]


@pytest.mark.parametrize("log", ["resources", "conversations", "a"])
async def test_what_was_appended_durably_is_there_after_reopening(
    open_storage: Callable[[], Storage], log: str
) -> None:
    storage = open_storage()
    await asyncio.gather(*(storage.append(log, [{"n": n}, {"n": -n}], durable=True) for n in range(1, 4)))
    await storage.close()
    storage = open_storage()
    assert [line["n"] for line in await storage.read_log(log)] == [1, -1, 2, -2, 3, -3]
    assert not storage.notices


async def test_logs_that_are_no_days_of_usage_are_not_among_them(storage: Storage) -> None:
    for log in ("resources", "2026-11-22", "conversations"):
        await storage.append(log, [{"n": 1}])
    assert await storage.logs() == ["2026-11-22"]


async def test_durable_appends_keep_their_place_among_other_writes(storage: Storage) -> None:
    calls = [
        storage.append("a", [{"n": 1}], durable=True),
        storage.replace_log("a", [{"n": 2}]),
        storage.append("a", [{"n": 3}], durable=True),
        storage.append("a", [{"n": 4}], durable=True),
        storage.append("b", [{"n": 5}], durable=True),
        storage.append("a", [{"n": 6}]),
        storage.append("a", [{"n": 7}], durable=True),
        storage.remove_log("b"),
        storage.append("b", [{"n": 8}], durable=True),
    ]
    await asyncio.gather(*reversed(calls))
    assert await storage.read_log("a") == [{"n": n} for n in (2, 3, 4, 6, 7)]
    assert await storage.read_log("b") == [{"n": 8}]


async def test_a_durable_append_that_could_not_be_read_back_takes_no_other_along(storage: Storage) -> None:
    done = await asyncio.gather(
        storage.append("a", [{"n": 1}], durable=True),
        storage.append("a", [{"n": 2}, {"n": float("nan")}], durable=True),
        storage.append("a", [{"n": 3}], durable=True),
        return_exceptions=True,
    )
    assert [type(each) for each in done] == [type(None), ValueError, type(None)]
    assert await storage.read_log("a") == [{"n": 1}, {"n": 3}]


async def test_the_lines_of_a_replacement_may_come_one_by_one(storage: Storage) -> None:
    await storage.replace_log("resources", ({"n": n} for n in range(2000)))
    assert await storage.read_log("resources") == [{"n": n} for n in range(2000)]


@pytest.mark.parametrize("name", ["", "a.b", "../a", "a/b"])
async def test_a_log_name_that_could_be_a_path_is_refused(storage: Storage, name: str) -> None:
    for refused in (
        lambda: storage.append(name, []),
        lambda: storage.append(name, [], durable=True),
        lambda: storage.each_line(name, print),
        lambda: storage.replace_log(name, []),
        lambda: storage.remove_log(name),
        lambda: storage.read_log(name),
    ):
        with pytest.raises(ValueError, match="will not do as an id"):
            await refused()


@pytest.mark.parametrize("line", [{"n": float("nan")}, {"text": "\ud800"}, {"set": {1}}, [1]], ids=repr)
async def test_lines_of_which_one_could_not_be_read_back_are_not_written(
    storage: Storage, line: object
) -> None:
    await storage.append("a", [{"n": 1}])
    with pytest.raises((ValueError, TypeError)):
        await storage.append("a", [{"n": 2}, line])  # type: ignore[list-item]
    with pytest.raises((ValueError, TypeError)):
        await storage.append("a", [{"n": 2}, line], durable=True)  # type: ignore[list-item]
    with pytest.raises((ValueError, TypeError)):
        await storage.replace_log("a", [{"n": 3}, line])  # type: ignore[list-item]
    assert await storage.read_log("a") == [{"n": 1}]
