/** What is exported. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { csv, flat, json } from "../../static/js/ui/export.js";

const AT = "2026-03-01T12:00:00Z";

describe("rows", () => {
	test("only the columns get out", () =>
		assert.deepEqual(flat(["id"], { id: "a", secret: "sk-ant" }), { id: "a" }));
	test("a dotted path leads into what is inside", () =>
		assert.deepEqual(flat(["day.requests"], { day: { requests: 3 } }), { "day.requests": 3 }));
	test("what is not there is null", () =>
		assert.deepEqual(flat(["day.requests", "name"], {}), { "day.requests": null, name: null }));
	test("beside a time stand its seconds", () =>
		assert.deepEqual(flat(["created_at"], { created_at: AT }), { created_at: AT, created_at_epoch: Date.parse(AT) / 1000 }));
	test("so they do for a limit's end", () =>
		assert.deepEqual(flat(["rate_limited_until"], {}), { rate_limited_until: null, rate_limited_until_epoch: null }));
	test("a name that ends alike is no time", () => assert.deepEqual(flat(["format"], {}), { format: null }));
});

describe("CSV", () => {
	const written = (value) => csv([{ x: value }]).split("\r\n")[1];

	test("lines end as RFC 4180 has it", () => assert.equal(csv([{ a: 1, b: 2 }]), "a,b\r\n1,2\r\n"));
	test("a comma is quoted", () => assert.equal(written("a,b"), '"a,b"'));
	test("quotes are doubled", () => assert.equal(written('say "a"'), '"say ""a"""'));
	test("a line break is quoted", () => assert.equal(csv([{ x: "a\nb" }]), 'x\r\n"a\nb"\r\n'));
	test("null is empty", () => assert.equal(written(null), ""));
	test("no rows are an empty line", () => assert.equal(csv([]), "\r\n"));
	for (const formula of ["=cmd()", "+1", "-1", "@sum", "\tx", "＝cmd()", "＋1", "－1", "＠sum"]) {
		test(`${JSON.stringify(formula)} is no formula`, () => assert.equal(written(formula), `'${formula}`));
	}
	for (const start of ["\r", "\n"]) {
		test(`after ${JSON.stringify(start)} nothing is a formula`, () => assert.equal(csv([{ x: `${start}=1` }]), `x\r\n"'${start}=1"\r\n`));
	}
	test("a formula that has to be quoted is none either", () => assert.equal(written("=a,b"), `"'=a,b"`));
	test("a number that is negative gets the apostrophe as well", () => assert.equal(written(-1), "'-1"));
});

describe("JSON", () => {
	test("it reads back equal", () => {
		const rows = [{ name: '=cmd "x",\n', n: 1, none: null }];
		assert.deepEqual(JSON.parse(json(rows)), rows);
	});
});
