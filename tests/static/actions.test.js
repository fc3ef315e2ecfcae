/** What an admin is told of a test, and what an undo leaves as another admin has made it. */
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

const SAVED = { status: "inactive", name: "team", etag: "mine" };

/** What is sent and told if two accounts are deactivated and that is undone, after the second one was renamed. */
async function undone() {
	const seen = { sent: [], told: [] };
	const accounts = new Map(["acc_1", "acc_2"].map((id) => [id, { id, name: id, status: "active" }]));
	const current = { ...SAVED, name: "theirs", etag: "theirs" };
	const app = {
		t,
		clock: String,
		store: { items: () => accounts },
		api: async (_, path, { status }, { ifMatch } = {}) => {
			seen.sent.push([path, status, ifMatch]);
			if (ifMatch && path.endsWith("acc_2")) throw Object.assign(new Error("changed"), { details: { current } });
			return { account: { ...SAVED, status } };
		},
		toast: async (toast) => void seen.told.push(toast),
	};
	// Two at once would be asked about in a dialog.
	await actions.subject(app, ["acc_1", "acc_2"]).send("deactivate",
		(id) => app.api("PUT", `api/accounts/${id}`, { status: "inactive" }),
		(done) => actions.setStatus(app, [...done.keys()], "active", done));
	for (const account of accounts.values()) account.status = "inactive";
	await seen.told.pop().undo();
	return seen;
}

test("what undoes a change of many leaves those that another admin has changed since, and says it", async () => {
	const { sent, told } = await undone();
	assert.deepEqual(sent.slice(2), [["api/accounts/acc_1", "active", "mine"], ["api/accounts/acc_2", "active", "mine"]]);
	assert.deepEqual(told.map(({ text }) => text),
		["1 of 2 failed: Changed by another admin: Name: team → theirs.", "1 account reactivated"]);
});

test("a name that another admin has given meanwhile is not taken back", async () => {
	const current = { name: "theirs", etag: "theirs" };
	const asked = [];
	const api = async (...call) => {
		asked.push(call);
		throw Object.assign(new Error("changed"), { details: { current } });
	};
	await assert.rejects(actions.put({ t, clock: String, api }, "api/accounts/acc_1", { name: "team" }, { name: "crew", etag: "mine" }),
		/^Error: Changed by another admin: Name: crew → theirs\.$/);
	assert.deepEqual(asked, [["PUT", "api/accounts/acc_1", { name: "team" }, { ifMatch: "mine" }]]);
});
