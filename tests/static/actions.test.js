/** What an admin is told of a test. */
import assert from "node:assert/strict";
import { test } from "node:test";

import * as actions from "../../static/js/actions.js";
import more from "../../static/js/strings.more.en.js";
import { addTexts, t } from "../../static/js/texts.js";

addTexts(more);

/** What is asked and told if the server answers `found`. */
async function tested(found) {
	const seen = { asked: [], told: [] };
	const accounts = new Map([["acc_1", { id: "acc_1", name: "team", status: "active" }]]);
	await actions.test({
		t,
		store: { items: () => accounts },
		api: async (...call) => {
			seen.asked.push(call);
			return found;
		},
		toast: async (toast) => void seen.told.push(toast),
	}, "acc_1");
	return seen;
}

test("a credential that works is told with its time", async () => {
	const { asked, told } = await tested({ ok: true, status: 200, latency_ms: 250, message: "answered 200" });
	assert.deepEqual(asked, [["POST", "api/accounts/acc_1/test"]]);
	assert.deepEqual(told.map(({ text, kind }) => [text, kind]), [["team works: answered 200 (250 ms)", undefined]]);
});

test("one that does not is an error with the reason", async () => {
	const { told } = await tested({ ok: false, status: 401, latency_ms: 9, message: "answered 401" });
	assert.deepEqual(told, [{ text: "team does not work: answered 401", kind: "error" }]);
});
