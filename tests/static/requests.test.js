// Which of the last requests are shown, and how new ones join those that are there.
import assert from "node:assert/strict";
import { test } from "node:test";
import { fits, hashOf, queryOf, reasonOf, unbroken, united, wantedIn } from "../../static/js/requests.js";

const NONE = wantedIn(new URLSearchParams());
const TRIES = [
	{ account_id: "acc_1", request_id: "req_up1", failure: "limited" },
	{ account_id: "acc_2", request_id: null, failure: null },
];
const ONE = {
	id: 7, request_id: "req_1", at: "2026-09-28T10:30:00.000Z", key_id: "tok_1", session_id: "ses_1", model: "m",
	status: 404, outcome: "client_error", tries: TRIES, ttfb_ms: 250, duration_ms: 1500,
};

test("each filter leaves out what is otherwise, and says yes to what it names", () => {
	assert.ok(fits(NONE, ONE));
	const cases = {
		key: ["tok_1", "tok_2"], account: ["acc_1", "acc_3"], session: ["ses_1", "ses_2"], model: ["m", "n"],
		failure: ["limited", "refused"], slow: ["250", "251"], search: ["up1", "up2"],
		from: ["2026-09-28T10:30:01Z", "2026-09-28T10:30:02Z"], to: ["2026-09-28T10:30:02Z", "2026-09-28T10:30:01Z"],
	};
	for (const [name, [yes, no]] of Object.entries(cases)) {
		assert.equal(fits({ ...NONE, [name]: yes }, ONE), true, name);
		assert.equal(fits({ ...NONE, [name]: no }, ONE), false, name);
	}
	for (const status of ["404", "4xx", "client_error", "failed"]) assert.ok(fits({ ...NONE, status }, ONE), status);
	for (const status of ["400", "5xx", "ok"]) assert.ok(!fits({ ...NONE, status }, ONE), status);
	assert.ok(fits({ ...NONE, failure: "any", account: "acc_1" }, ONE));
	assert.ok(!fits({ ...NONE, failure: "any", account: "acc_2" }, ONE), "another account failed");
	assert.ok(fits({ ...NONE, retried: "true" }, ONE));
	assert.ok(!fits({ ...NONE, retried: "true" }, { ...ONE, tries: TRIES.slice(1) }));
});

test("without a first byte the whole time counts as slow", () => {
	assert.ok(fits({ ...NONE, slow: "1500" }, { ...ONE, ttfb_ms: null }));
});

test("the address has the filters, and only they are asked for", () => {
	const wanted = wantedIn(new URLSearchParams("key=tok_1&status=&colour=red"));
	assert.equal(String(queryOf(wanted)), "key=tok_1");
});

test("a span that is none leaves nothing out", () => {
	const wanted = wantedIn(new URLSearchParams("from=abc&to=2026-13-01T00:00:00Z"));
	assert.deepEqual(wanted, NONE);
	const { from } = wantedIn(new URLSearchParams("from=2026-09-28T10:30:01Z"));
	assert.equal(from, "2026-09-28T10:30:01Z");
});

test("a bar of a chart leads to the requests of its time", () => {
	const hash = hashOf({ start: 1_790_591_400, span_s: 60 }, { status: "failed" });
	const query = new URLSearchParams(hash.split("?")[1]);
	assert.deepEqual([...query], [
		["status", "failed"], ["from", "2026-09-28T10:30:00.000Z"], ["to", "2026-09-28T10:31:00.000Z"],
	]);
});

test("what came before a gap does not join what came after", () => {
	const lines = [{ id: 1 }, { id: 5, skipped: 3 }, { id: 6 }];
	assert.deepEqual(unbroken(lines).map(({ id }) => id), [5, 6]);
	assert.deepEqual(unbroken([{ id: 1 }]).map(({ id }) => id), [1]);
	assert.deepEqual(unbroken([]), []);
});

test("two lists become one, newest first, each once", () => {
	assert.deepEqual(united([{ id: 3 }, { id: 1 }], [{ id: 2 }, { id: 3 }]).map(({ id }) => id), [3, 2, 1]);
});

test("why it failed is what its client was told, or how the upstream's error begins", () => {
	const tried = (status, evidence) => ({ status, evidence });
	const failed = { reason: null, outcome: "client_error", status: 400, tries: [tried(429, "429 x"), tried(400, "400 y: z")] };
	assert.equal(reasonOf(failed), "y: z");
	assert.equal(reasonOf({ ...failed, tries: [tried(400, "400")] }), null);
	assert.equal(reasonOf({ ...failed, tries: [] }), null);
	assert.equal(reasonOf({ ...failed, status: 503, reason: "nobody can" }), "nobody can");
	assert.equal(reasonOf({ ...failed, status: 503 }), null);
	assert.equal(reasonOf({ ...failed, outcome: "ok" }), null);
});
