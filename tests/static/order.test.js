/** In which order a table has its rows. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { calm, direction, sorted } from "../../static/js/ui/order.js";

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

describe("staying calm", () => {
	test("what is there keeps its place", () => assert.deepEqual(calm(["b", "a"], ["a", "b"]), ["b", "a"]));
	test("what is gone goes", () => assert.deepEqual(calm(["b", "x", "a"], ["a", "b"]), ["b", "a"]));
	test("what is new comes behind the one that it is to follow", () =>
		assert.deepEqual(calm(["b", "a"], ["a", "new", "b"]), ["b", "a", "new"]));
	test("what is to be the first comes first", () => assert.deepEqual(calm(["b", "a"], ["new", "a", "b"]), ["new", "b", "a"]));
});
