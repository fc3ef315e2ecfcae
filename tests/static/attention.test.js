/** Which accounts need somebody, and how far a new proxy has come. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { changeOf, otherReasons, stepsOf, troubleOf } from "../../static/js/attention.js";

const NOW = Date.parse("2027-01-15T08:00:00Z");
const account = (more) => ({ type: "oauth", status: "active", status_reason: null, last_refresh_error: null,
	expires_at: "2027-01-15T08:01:00Z", unchecked: false, last_used_at: null, ...more });
const trouble = (more) => {
	const found = troubleOf(account(more), NOW);
	return found && [found.text, found.solve];
};

describe("an account", () => {
	test("whose token ends soon refreshes it by itself", () => assert.equal(trouble({}), null));
	test("that is invalid has to sign in again", () =>
		assert.deepEqual(trouble({ status: "invalid", status_reason: "revoked" }), ["n_signed_out", "reauthorise"]));
	test("that is invalid and has a key needs another one", () =>
		assert.deepEqual(trouble({ type: "api_key", status: "invalid" }), ["n_key", "replace_key"]));
	test("whose refresh fails can be refreshed by hand", () =>
		assert.deepEqual(trouble({ last_refresh_error: "502" }), ["n_refresh", "refresh"]));
	test("has to sign in again when its token has ended meanwhile", () =>
		assert.deepEqual(trouble({ last_refresh_error: "502", expires_at: "2027-01-15T07:00:00Z" }), ["n_ended", "reauthorise"]));
	test("that refuses can be tested", () => assert.deepEqual(trouble({ status_reason: "refused 3" }), ["n_refuses", "test"]));
	test("that nobody has checked can be tested", () =>
		assert.deepEqual(trouble({ type: "api_key", unchecked: true, expires_at: null }), ["n_unchecked", "test"]));
	test("that rests comes back by itself", () =>
		assert.equal(trouble({ status: "rate_limited", status_reason: "used up" }), null));
	test("that is inactive is so on purpose", () =>
		assert.equal(trouble({ status: "inactive", last_refresh_error: "502" }), null));
});

describe("the first steps", () => {
	const done = (accounts, traffic) => stepsOf(accounts, { client_keys: 0, sessions: 0,
		since_start: { requests: 0, errors: 0 }, ...traffic }).map((step) => step.done).join(" ");

	test("begin with nothing", () => assert.equal(done([], {}), "false false false false"));
	test("are an account and a client key", () => assert.equal(done([account()], { client_keys: 1 }), "true true false false"));
	test("are a client that was refused", () =>
		assert.equal(done([], { client_keys: 1, since_start: { requests: 2, errors: 2 } }), "false true true false"));
	test("are an answer", () =>
		assert.equal(done([account()], { client_keys: 1, since_start: { requests: 2, errors: 1 } }), "true true true true"));
	test("are done after a restart as well", () =>
		assert.equal(done([account({ last_used_at: "2027-01-15T07:00:00Z" })], { client_keys: 1 }), "true true true true"));
});

test("what the bar of states says is not said again", () =>
	assert.deepEqual(otherReasons({ reasons: ["no accounts", "1 of 12 accounts rate limited", "2 of 3 accounts invalid",
		"1 of 3 accounts inactive", "1 of 3 accounts refuse all requests", "usage is not on disk yet"] }),
	["1 of 3 accounts refuse all requests", "usage is not on disk yet"]));

describe("the cost", () => {
	test("is compared with that of yesterday", () => assert.deepEqual([changeOf(3, 2), changeOf(1, 2), changeOf(2, 2)], [50, -50, 0]));
	test("is compared with nothing unless there is something", () =>
		assert.deepEqual([changeOf(null, 2), changeOf(2, 0), changeOf(2, null)], [null, null, null]));
});
