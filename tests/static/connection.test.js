/** The connection's state machine: what happens to it, what it becomes, and what it has done. */
import assert from "node:assert/strict";
import { beforeEach, describe, test } from "node:test";

import { initial, step, takesPolls } from "../../static/js/connection.js";

const ASSETS = "abc";
const START_WALL = 1_800_000_000_000;

let state;
/** The monotonic clock, in ms. */
let at;
let facts;
/** What has been asked for since it was last looked at. */
let effects;

beforeEach(() => {
	at = 1000;
	state = initial({ at, wall: START_WALL + at, hidden: false });
	facts = { random: 1, changes: 0, epoch: null, revs: {}, current: true };
	effects = [];
});

function happen(type, more = {}) {
	const turn = step(state, { at, wall: START_WALL + at, ...facts, type, ...more });
	state = turn.state;
	effects.push(...turn.effects);
}

const asked = (name) => effects.filter((effect) => effect.do === name);
const sent = (t) => asked("send").map(({ message }) => message).filter((message) => message.t === t);
const frame = (t, more = {}, accepted = true) => happen("framed", { frame: { t, ...more }, accepted, assets: ASSETS });
const hello = (more = {}) => ({ t: "hello", now: (START_WALL + at) / 1000, assets: ASSETS, ...more });
const polled = (turn, more = {}) => happen("polled", { turn, status: 200, hello: hello(), assets: ASSETS, ...more });
const unanswered = { status: 0, hello: null };
const now = () => at + state.base;

/** Until it is live. */
function connected() {
	happen("started");
	happen("opened");
	frame("hello", hello());
	frame("snap");
	effects = [];
}

/** A handshake that is refused, while polls are answered. */
function refused() {
	happen("closed", { code: 1006 });
	polled(0);
	if (!state.pollsLeft) happen("waited");
}

/** Until it polls. */
function polling() {
	happen("started");
	for (let n = 0; n < 3; n += 1) refused();
	polled(state.turn);
	effects = [];
}

describe("connecting", () => {
	test("it opens a socket", () => {
		happen("started");
		assert.deepEqual([state.status, asked("open").length, asked("beat")], ["connecting", 1, [{ do: "beat", on: true }]]);
	});

	test("once open it says which epoch and revisions it has", () => {
		happen("started");
		facts.epoch = "e1";
		facts.revs = { accounts: 12 };
		happen("opened");
		assert.deepEqual(sent("hello"), [{ t: "hello", epoch: "e1", topics: { accounts: 12 }, hz: 20, lists: true }]);
	});

	test("it is live when all topics have come", () => {
		connected();
		assert.equal(state.status, "live");
	});

	test("it is not live while a topic is missing", () => {
		happen("started");
		happen("opened");
		facts.current = false;
		frame("snap");
		assert.equal(state.status, "connecting");
	});

	test("it is live with a heartbeat: nothing was new", () => {
		happen("started");
		happen("opened");
		facts.current = false;
		frame("hb");
		assert.equal(state.status, "live");
	});

	test("a topic that is wanted is subscribed to from its revision", () => {
		connected();
		facts.revs = { sessions: 5 };
		happen("wanted", { topics: ["sessions"] });
		assert.deepEqual(sent("sub"), [{ t: "sub", topic: "sessions", rev: 5 }]);
	});

	test("a topic that is not wanted any more is left", () => {
		connected();
		happen("wanted", { topics: ["sessions"] });
		happen("wanted", { topics: [] });
		assert.deepEqual(sent("unsub"), [{ t: "unsub", topic: "sessions" }]);
	});

	test("a topic that stays wanted is not asked for again", () => {
		connected();
		happen("wanted", { topics: ["sessions"] });
		happen("wanted", { topics: ["sessions", "sessions"] });
		assert.equal(sent("sub").length, 1);
	});

	test("nothing is sent before the socket is open", () => {
		happen("started");
		happen("wanted", { topics: ["sessions"] });
		assert.deepEqual(asked("send"), []);
	});

	test("a server with another version of the page is noticed", () => {
		happen("started");
		happen("opened");
		frame("hello", hello({ assets: "def" }));
		assert.equal(state.outdated, true);
	});

	test("a step leaves the state before it as it was", () => {
		const before = Object.freeze({ ...state });
		step(before, { at, wall: 0, ...facts, type: "started" });
		assert.equal(before.running, false);
	});
});

describe("losing the connection", () => {
	test("it says since when, and tries again", () => {
		connected();
		happen("closed", { code: 1006 });
		assert.deepEqual([state.status, state.lostAt, asked("wait").length], ["reconnecting", now(), 1]);
	});

	test("a missing frame ends the connection, to say hello again", () => {
		connected();
		frame("delta", {}, false);
		assert.deepEqual([state.status, asked("close").length], ["reconnecting", 1]);
	});

	test("after the wait it opens again", () => {
		connected();
		happen("closed", { code: 1006 });
		happen("waited");
		assert.equal(asked("open").length, 1);
	});

	/** As many failures in a row, until it waits again. */
	function failing(count) {
		for (let n = 0; n < count; n += 1) {
			if (state.socket === "opening") happen("closed", { code: 1006 });
			polled(0, unanswered);
			at += asked("wait").at(-1).ms;
			happen("waited");
		}
	}

	test("the wait doubles with each failure, up to 2.5 s", () => {
		connected();
		happen("closed", { code: 1006 });
		failing(6);
		assert.deepEqual(asked("wait").slice(0, 6).map(({ ms }) => ms), [500, 1000, 2000, 2500, 2500, 2500]);
	});

	test("after five minutes it is up to 30 s, and in a hidden tab from the start", () => {
		connected();
		happen("closed", { code: 1006 });
		failing(10);
		at += 300_000;
		failing(1);
		assert.equal(asked("wait").at(-1).ms, 30_000);
		connected();
		state.hidden = true;
		happen("closed", { code: 1006 });
		failing(6);
		assert.equal(Math.max(...asked("wait").map(({ ms }) => ms)) > 2500, true);
	});

	test("after some failures it asks whether there is a server before it opens: browsers slow down who fails", () => {
		connected();
		happen("closed", { code: 1006 });
		failing(3);
		const opened = asked("open").length;
		failing(4);
		assert.equal(asked("open").length, opened);
		polled(0);
		assert.deepEqual([asked("open").length, state.socket], [opened + 1, "opening"]);
	});

	test("a server that is back within minutes is found within 3 s", () => {
		connected();
		happen("closed", { code: 1006 });
		failing(60);
		const back = at;
		at += asked("wait").at(-1).ms;
		happen("waited");
		polled(0);
		happen("opened");
		frame("hb");
		assert.deepEqual([state.status, at - back <= 3000], ["live", true]);
	});

	test("the wait is anything from 0 up to that", () => {
		connected();
		facts.random = 0.25;
		happen("closed", { code: 1006 });
		assert.deepEqual(asked("wait"), [{ do: "wait", ms: 125 }]);
	});

	test("it says when it will try again", () => {
		connected();
		happen("closed", { code: 1006 });
		assert.equal(state.retryAt, now() + 500);
	});

	test("ten good seconds forget the failures", () => {
		connected();
		state.failures = 5;
		at += 10_001;
		happen("beat");
		assert.equal(state.failures, 0);
	});

	test("a connection that is lost at once does not", () => {
		connected();
		state.failures = 5;
		at += 9000;
		happen("beat");
		assert.equal(state.failures, 5);
	});

	test("25 s of silence are a loss, since the last word", () => {
		connected();
		const last = now();
		at += 25_001;
		happen("beat");
		assert.deepEqual([state.status, state.lostAt], ["reconnecting", last]);
	});

	test("24 s of silence are none", () => {
		connected();
		at += 24_000;
		happen("beat");
		assert.equal(state.status, "live");
	});

	test("who does not want to wait need not", () => {
		connected();
		happen("closed", { code: 1006 });
		happen("retried");
		assert.equal(asked("open").length, 1);
	});

	test("a try while one is under way changes nothing", () => {
		connected();
		happen("retried");
		assert.deepEqual(effects, []);
	});

	test("live again, it tells how long it was away", () => {
		connected();
		const from = now();
		happen("closed", { code: 1006 });
		at += 5000;
		happen("waited");
		happen("opened");
		frame("snap");
		assert.deepEqual([state.losses, state.lostAt], [[{ from, at: new Date(now()).toISOString() }], 0]);
	});

	test("live again, it tells how much has changed", () => {
		connected();
		facts.changes = 10;
		happen("closed", { code: 1006 });
		happen("waited");
		happen("opened");
		facts.changes = 24;
		frame("snap");
		assert.equal(state.applied, 14);
	});

	test("too many dashboards: it waits 30 s", () => {
		connected();
		happen("closed", { code: 4408 });
		assert.deepEqual([state.status, asked("wait")], ["full", [{ do: "wait", ms: 30_000 }]]);
	});

	test("signed out, it stays away", () => {
		connected();
		happen("closed", { code: 4401 });
		assert.deepEqual([state.status, state.running, asked("wait")], ["signed-out", false, []]);
	});

	test("refused for its version, the page is outdated", () => {
		connected();
		happen("closed", { code: 4409 });
		assert.equal(state.outdated, true);
	});

	test("who leaves is not connected again", () => {
		connected();
		happen("left");
		happen("retried");
		assert.deepEqual(asked("open"), []);
	});
});

describe("polling", () => {
	test("a refused handshake asks who refused", () => {
		happen("started");
		happen("closed", { code: 1006 });
		assert.deepEqual(asked("poll"), [{ do: "poll", turn: 0 }]);
	});

	test("an open connection that breaks does not", () => {
		connected();
		happen("closed", { code: 1006 });
		assert.deepEqual(asked("poll"), []);
	});

	test("refused because there is no session, it is signed out", () => {
		happen("started");
		happen("closed", { code: 1006 });
		polled(0, { status: 401, hello: null });
		assert.equal(state.status, "signed-out");
	});

	test("two refused handshakes are not enough to poll", () => {
		happen("started");
		refused();
		refused();
		assert.equal(state.status, "reconnecting");
	});

	test("the third begins it", () => {
		polling();
		assert.equal(state.status, "polling");
	});

	test("a server that does not answer either is not polled", () => {
		happen("started");
		for (let n = 0; n < 5; n += 1) {
			happen("closed", { code: 1006 });
			polled(0, unanswered);
			happen("waited");
		}
		assert.notEqual(state.status, "polling");
	});

	test("it polls every 3 s", () => {
		polling();
		happen("waited");
		polled(state.turn);
		assert.deepEqual([asked("poll").length, asked("wait")], [1, [{ do: "wait", ms: 3000 }]]);
	});

	test("after eleven polls it tries a socket again", () => {
		polling();
		for (let n = 0; n < 10; n += 1) {
			happen("waited");
			polled(state.turn);
		}
		happen("waited");
		assert.deepEqual([asked("poll").length, asked("open").length], [10, 1]);
	});

	test("a socket that is refused again leaves it polling", () => {
		polling();
		happen("retried");
		happen("closed", { code: 1006 });
		assert.deepEqual([state.status, asked("poll").length], ["polling", 1]);
	});

	test("a socket that opens ends it", () => {
		polling();
		happen("retried");
		happen("opened");
		frame("hb");
		assert.deepEqual([state.status, takesPolls(state)], ["live", false]);
	});

	test("a poll without an answer is a loss", () => {
		polling();
		happen("waited");
		polled(state.turn, unanswered);
		assert.equal(state.status, "reconnecting");
	});

	test("the answer to a poll before the last is too late", () => {
		polling();
		happen("wanted", { topics: ["sessions"] });
		polled(state.turn - 1);
		assert.deepEqual(asked("wait"), []);
	});

	test("another topic is polled for at once", () => {
		polling();
		happen("wanted", { topics: ["sessions"] });
		assert.equal(asked("poll").length, 1);
	});

	test("an answer after the end changes nothing", () => {
		polling();
		happen("waited");
		happen("left");
		polled(state.turn);
		assert.equal(state.status, "signed-out");
	});
});

describe("a hidden tab", () => {
	test("it asks for less", () => {
		connected();
		happen("hid", { hidden: true });
		assert.deepEqual(sent("rate"), [{ t: "rate", hz: 0.2 }]);
	});

	test("seen again, it asks for all, and the time", () => {
		connected();
		happen("hid", { hidden: true });
		effects = [];
		happen("hid", { hidden: false });
		assert.deepEqual([sent("rate"), sent("ping").length], [[{ t: "rate", hz: 20 }], 1]);
	});

	test("seen again without a connection, it tries at once", () => {
		connected();
		happen("closed", { code: 1006 });
		happen("hid", { hidden: false });
		assert.equal(asked("open").length, 1);
	});

	test("one that connects says so from the start", () => {
		happen("hid", { hidden: true });
		happen("started");
		happen("opened");
		assert.equal(sent("hello")[0].hz, 0.2);
	});

	test("it sends no pings", () => {
		connected();
		happen("hid", { hidden: true });
		for (let n = 0; n < 20; n += 1) happen("beat");
		assert.deepEqual(sent("ping"), []);
	});
});

describe("the server's time", () => {
	test("it is that of the hello", () => {
		happen("started");
		happen("opened");
		frame("hello", hello({ now: 5000 }));
		assert.equal(now(), 5_000_000);
	});

	test("a pong is as old as half of its way", () => {
		connected();
		const c = at;
		at += 200;
		frame("pong", { c, now: 5000 });
		assert.equal(now(), 5_000_100);
	});

	test("the fastest of the last pings tells it", () => {
		connected();
		frame("pong", { c: at - 10, now: 5000 });
		const best = state.base;
		frame("pong", { c: at - 400, now: 6000 });
		assert.equal(state.base, best);
	});

	test("it is asked for every 15 s", () => {
		connected();
		for (let n = 0; n < 15; n += 1) happen("beat");
		assert.equal(sent("ping").length, 1);
	});

	test("this machine's clock does not move it", () => {
		connected();
		const before = now();
		happen("beat", { wall: START_WALL + at + 3_600_000 });
		assert.equal(now(), before);
	});

	test("after a sleep it is asked for anew", () => {
		connected();
		frame("pong", { c: at, now: 5000 });
		happen("beat", { wall: START_WALL + at + 60_000 });
		assert.deepEqual([state.pings, sent("ping").length], [[], 1]);
	});
});
