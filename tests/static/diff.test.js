import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { changes, diff } from "../../static/js/diff.js";
import more from "../../static/js/strings.more.en.js";
import { addTexts, t } from "../../static/js/texts.js";

suite("what a change has changed", () => {
	test("a field, before and after", () => {
		assert.equal(diff({ name: "team" }, { name: "crew" }), "name: team → crew");
	});

	test("only the members of a field that have changed", () => {
		const before = { limits: { a: null, b: 1 }, models: ["x"] };
		const after = { limits: { a: 5, b: 1 }, models: [] };
		assert.equal(diff(before, after), "limits.a: – → 5; models: x → –");
	});

	test("nothing of what is new or gone, unless all of it is wanted", () => {
		assert.equal(diff(null, { name: "crew" }), "");
		assert.equal(diff({ name: "crew" }, null), "");
		assert.equal(diff(null, { api_key: "replaced" }, true), "api_key: replaced");
	});

	test("in words, and what has none by its name", () => {
		addTexts(more);
		const before = { status: "active", limits: { tokens_per_day: null }, "log.level": "info" };
		const after = { status: "disabled", limits: { tokens_per_day: 5 }, "log.level": "debug" };
		assert.equal(changes({ t, clock: String }, before, after),
			"Status: active → disabled; Tokens per day: – → 5; log.level: info → debug");
	});

	test("with times as settings want them", () => {
		const clock = (/** @type {any} */ at) => at.slice(0, 4);
		const at = { expires_at: "2030-01-01T00:00:00.000Z" };
		assert.equal(changes({ t, clock }, { expires_at: null }, at), "Expires: – → 2030");
	});
});
