/** In which order a table has its rows. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { calm, direction, natural, sorted } from "../../static/js/ui/order.js";

const byName = (a, b) => (a.name < b.name ? -1 : 1);
const items = [{ name: "b", n: 1 }, { name: "c", n: null }, { name: "a", n: 1 }, { name: "d", n: 2 }];
const names = (by, descending) => sorted(items, by, descending, byName).map(({ name }) => name).join("");

describe("sorting", () => {
	test("by nothing it is the usual order", () => assert.equal(names(undefined, false), "abcd"));
	test("equal ones stand in the usual order, those without a value last", () =>
		assert.equal(names(({ n }) => n, false), "abdc"));
	test("backwards those without a value are last too", () => assert.equal(names(({ n }) => n, true), "dabc"));
	test("a minus asks for backwards", () => assert.deepEqual(direction("-name"), { key: "name", descending: true }));
	test("without one it is forwards", () => assert.deepEqual(direction("name"), { key: "name", descending: false }));
});

describe("natural order", () => {
	const inOrder = (...texts) => assert.deepEqual(texts.toReversed().sort(natural), texts);
	test("numbers in names count as numbers", () => inOrder("team-1", "team-2", "team-10", "team-10b", "team-11"));
	test("so they do for models", () => inOrder("claude-opus-4-5", "claude-opus-4-10", "claude-opus-5"));
	test("capitals stand beside small letters", () => inOrder("alpha", "Beta", "gamma", "Zeta"));
	test("times of the server stay in order", () =>
		inOrder("2026-01-31T09:59:59.999Z", "2026-02-01T10:00:00.050Z", "2026-02-01T10:00:00.500Z"));
	test("columns have it too, either way", () => {
		const teams = ["team-10", "team-9", "team-1"].map((name) => ({ name }));
		const by = (descending) => sorted(teams, ({ name }) => name, descending, byName).map(({ name }) => name);
		assert.deepEqual(by(false), ["team-1", "team-9", "team-10"]);
		assert.deepEqual(by(true), ["team-10", "team-9", "team-1"]);
	});
});

describe("staying calm", () => {
	test("what is there keeps its place", () => assert.deepEqual(calm(["b", "a"], ["a", "b"]), ["b", "a"]));
	test("what is gone goes", () => assert.deepEqual(calm(["b", "x", "a"], ["a", "b"]), ["b", "a"]));
	test("what is new comes behind the one that it is to follow", () =>
		assert.deepEqual(calm(["b", "a"], ["a", "new", "b"]), ["b", "a", "new"]));
	test("what is to be the first comes first", () => assert.deepEqual(calm(["b", "a"], ["new", "a", "b"]), ["new", "b", "a"]));
});
