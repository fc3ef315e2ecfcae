/** The store: what frames do to it, and that it ends with what the server has, whatever the network does to them. */
import assert from "node:assert/strict";
import { beforeEach, describe, test } from "node:test";

import { createStore } from "../../static/js/store.js";
import { Connection, Server, random } from "./server.js";

/** @type {ReturnType<typeof createStore>} */
let store;
/** What has been scheduled to be painted. */
let paints = [];

function paint() {
	for (const flush of paints.splice(0)) flush();
}

/** Has the store accept frames, numbered from 1. */
function receive(...frames) {
	store.reset();
	return frames.map((frame, at) => store.accept({ n: at + 1, ...frame }));
}

const snap = (items, more = {}) => ({ t: "snap", topic: "accounts", rev: 1, items, ...more });
const delta = (set, del = [], more = {}) => ({ t: "delta", topic: "accounts", rev: 2, set, del, ...more });
const ev = (items, more = {}) => ({ t: "ev", topic: "events", rev: 1, items, ...more });
const hello = (epoch) => ({ t: "hello", epoch });
const shown = (topic = "accounts") => Object.fromEntries(store.items(topic));

beforeEach(() => {
	paints = [];
	store = createStore((flush) => paints.push(flush));
});

describe("frames", () => {
	test("a snapshot is what there is", () => {
		receive(snap({ a: { x: 1 } }), snap({ b: { x: 2 } }));
		assert.deepEqual(shown(), { b: { x: 2 } });
	});

	test("a snapshot stands in the order of the server", () => {
		receive(snap({ a: {}, b: {} }), snap({ b: {}, a: {} }));
		assert.deepEqual([...store.items("accounts").keys()], ["b", "a"]);
	});

	test("a snapshot in pieces is shown when it is whole", () => {
		receive(snap({ a: {} }, { more: true }));
		assert.deepEqual(shown(), {});
	});

	test("the pieces of a snapshot make one", () => {
		receive(snap({ a: {} }, { more: true }), snap({ b: {} }));
		assert.deepEqual(shown(), { a: {}, b: {} });
	});

	test("pieces of a connection before are forgotten", () => {
		receive(snap({ a: {} }, { more: true }));
		receive(snap({ b: {} }));
		assert.deepEqual(shown(), { b: {} });
	});

	test("a delta changes fields and keeps the others", () => {
		receive(snap({ a: { x: 1, y: 1 } }), delta({ a: { y: 2 } }));
		assert.deepEqual(shown(), { a: { x: 1, y: 2 } });
	});

	test("a delta changes the item that views hold", () => {
		receive(snap({ a: { x: 1 } }));
		const held = store.items("accounts").get("a");
		receive(delta({ a: { x: 2 } }));
		assert.equal(held.x, 2);
	});

	test("a delta adds items", () => {
		receive(delta({ a: { x: 1 } }));
		assert.deepEqual(shown(), { a: { x: 1 } });
	});

	test("a delta deletes items", () => {
		receive(snap({ a: {}, b: {} }), delta({}, ["a", "never-there"]));
		assert.deepEqual(shown(), { b: {} });
	});

	test("a frame of an unknown kind changes nothing", () => {
		assert.deepEqual(receive({ t: "news" }, snap({ a: {} })), [true, true]);
	});

	test("events are kept by id, the oldest first", () => {
		receive(ev([{ id: 7 }, { id: 8 }]));
		assert.deepEqual([...store.items("events").keys()], ["7", "8"]);
	});

	test("the event after a gap says how many are missing", () => {
		receive(ev([{ id: 7 }, { id: 8 }], { dropped: 3 }));
		assert.deepEqual(shown("events"), { 7: { id: 7, skipped: 3 }, 8: { id: 8 } });
	});

	test("a thousand events are kept, the newest", () => {
		receive(ev(Array.from({ length: 1002 }, (_, id) => ({ id: id + 1 }))));
		assert.deepEqual([store.items("events").size, [...store.items("events").keys()][0]], [1000, "3"]);
	});
});

describe("gaps and revisions", () => {
	test("a missing frame is noticed", () => {
		store.accept({ n: 1, ...snap({}) });
		assert.equal(store.accept({ n: 3, ...delta({}) }), false);
	});

	test("a repeated frame is noticed", () => {
		store.accept({ n: 1, ...snap({}) });
		assert.equal(store.accept({ n: 1, ...snap({}) }), false);
	});

	test("what comes after a gap is not taken", () => {
		store.accept({ n: 2, ...snap({ a: {} }) });
		assert.deepEqual(shown(), {});
	});

	test("a heartbeat shows that a frame is missing", () => {
		assert.equal(store.accept({ n: 2, t: "hb", now: 0 }), false);
	});

	test("frames of a new connection count from 1", () => {
		receive(snap({}), delta({}));
		assert.deepEqual(receive(delta({})), [true]);
	});

	test("the revision is that of the last frame", () => {
		receive(snap({}), delta({}));
		assert.equal(store.rev("accounts"), 2);
	});

	test("a piece has no revision yet", () => {
		receive(snap({}), delta({}, [], { rev: 9, more: true }));
		assert.equal(store.rev("accounts"), 1);
	});

	test("a topic is ready once it came whole, and stays so", () => {
		receive(snap({}));
		store.reset();
		assert.equal(store.ready("accounts"), true);
	});

	test("a topic is current only on the connection that it came on", () => {
		receive(snap({}));
		const before = store.current("accounts");
		store.reset();
		assert.deepEqual([before, store.current("accounts")], [true, false]);
	});

	test("a server of a new epoch is asked for everything", () => {
		receive(hello("e1"), snap({}));
		receive(hello("e2"));
		assert.deepEqual([store.epoch, store.rev("accounts")], ["e2", 0]);
	});

	test("what was shown stays until the new epoch has told what there is", () => {
		receive(hello("e1"), snap({ a: {} }));
		receive(hello("e2"));
		assert.deepEqual(shown(), { a: {} });
	});

	test("events of an epoch before are gone: their numbers begin anew", () => {
		receive(hello("e1"), ev([{ id: 1 }]));
		receive(hello("e2"));
		assert.deepEqual(shown("events"), {});
	});

	test("so are requests", () => {
		receive(hello("e1"), { t: "ev", topic: "requests", rev: 1, items: [{ id: 1 }] });
		receive(hello("e2"));
		assert.deepEqual(shown("requests"), {});
	});

	test("the same epoch keeps its revisions", () => {
		receive(hello("e1"), snap({}));
		receive(hello("e1"));
		assert.equal(store.rev("accounts"), 1);
	});
});

describe("watchers", () => {
	test("they hear once a paint what has changed", () => {
		const heard = [];
		store.watch((dirty) => heard.push(dirty));
		receive(snap({ a: {} }), delta({ b: {} }));
		paint();
		assert.deepEqual(heard, [new Map([["accounts", new Set(["a", "b"])]])]);
	});

	test("they hear nothing before it is painted", () => {
		let heard = 0;
		store.watch(() => (heard += 1));
		receive(snap({ a: {} }));
		assert.equal(heard, 0);
	});

	test("a snapshot marks only what is another", () => {
		receive(snap({ a: { x: 1 }, b: { x: 1 }, c: {} }));
		paint();
		let heard;
		store.watch((dirty) => (heard = dirty.get("accounts")));
		receive(snap({ a: { x: 1 }, b: { x: 2 } }));
		paint();
		assert.deepEqual(heard, new Set(["b", "c"]));
	});

	test("one that has ended hears nothing", () => {
		let heard = 0;
		const life = new AbortController();
		store.watch(() => (heard += 1), life.signal);
		life.abort();
		receive(snap({ a: {} }));
		paint();
		assert.equal(heard, 0);
	});

	test("changes are counted", () => {
		receive(snap({ a: {}, b: {} }), delta({ a: {} }));
		assert.equal(store.changes, 3);
	});
});

describe("whatever the network does", () => {
	const SEEDS = 500;
	const STEPS = 40;
	const CALM_STEPS = 10;
	const TOPICS = ["accounts", "sessions", "events"];

	/** Loses a frame, repeats one, or swaps two. */
	function spoil(frames, chance) {
		const at = chance.below(frames.length);
		const how = chance.below(3);
		if (how === 0) frames.splice(at, 1);
		else if (how === 1) frames.splice(at, 0, frames[at]);
		else {
			const other = chance.below(frames.length);
			[frames[at], frames[other]] = [frames[other], frames[at]];
		}
	}

	/** A server, a page and a bad network between them, then a good one: gives what each has. */
	function converge(seed) {
		const chance = random(seed);
		const page = createStore(() => {});
		const server = new Server(chance);
		const connect = () => {
			page.reset();
			return new Connection(server, page, TOPICS);
		};
		let connection = connect();
		for (let step = 0; step < STEPS; step += 1) {
			const calm = step >= STEPS - CALM_STEPS;
			for (let n = chance.below(4); n > 0; n -= 1) server.change();
			if (!calm && chance.of(0.05)) {
				server.restart();
				connection = connect();
			}
			connection.send(TOPICS.filter(() => chance.of(0.5)));
			if (!calm && connection.frames.length && chance.of(0.2)) spoil(connection.frames, chance);
			const arrived = connection.frames.splice(0, chance.below(connection.frames.length + 1));
			if (!arrived.every((frame) => page.accept(frame)) || (!calm && chance.of(0.1))) connection = connect();
		}
		connection.send(TOPICS);
		connection.heartbeat();
		if (!connection.frames.every((frame) => page.accept(frame))) assert.ok(connect().frames.every((frame) => page.accept(frame)));
		return { has: server.items(), shows: Object.fromEntries(TOPICS.map((topic) => [topic, items(page, topic)])) };
	}

	const items = (page, topic) => Object.fromEntries(page.items(topic));

	test("the page ends with what the server has", () => {
		for (let seed = 0; seed < SEEDS; seed += 1) {
			const { has, shows } = converge(seed);
			// How many events were skipped depends on the way; which are there does not.
			for (const event of Object.values(shows.events)) delete event.skipped;
			for (const id of Object.keys(shows.events)) if (!(id in has.events)) delete shows.events[id];
			assert.deepEqual(shows, has, `seed ${seed}`);
		}
	});
});
