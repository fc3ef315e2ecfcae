// @ts-check
/** How the page's connection goes: a pure state machine. `live.js` tells it what happens, and does what it asks for. */

/** The server speaks every 10 s. */
const STALE_MS = 25_000;
const POLL_MS = 3000;
/** So many polls, then a WebSocket is tried again. */
const POLLS = 11;
/** After so many refused handshakes, each with a poll that was answered, it polls. */
const REFUSED_BEFORE_POLLING = 3;
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 30_000;
/** A restart takes minutes at most: so long somebody who looks on does not wait longer for each try than this. */
const RESTARTING_MS = 300_000;
const RESTARTING_WAIT_MS = 2500;
/** After so many failures it asks by a poll whether there is a server: browsers slow down who opens and fails. */
const FAILURES_BEFORE_LOOKING = 3;
/** A connection that lasts this long is a good one. */
const GOOD_AFTER_MS = 10_000;
const BEATS_BETWEEN_PINGS = 15;
/** Of the last pings the fastest tells the time best. */
const PINGS = 8;
/** The machine slept, or its clock was set, if its two clocks drift apart by this in a second. */
const DRIFT_MS = 1000;
const SEEN_HZ = 20;
const HIDDEN_HZ = 0.2;

/** Close codes of the server, see `handlers/live.py`. */
const SIGNED_OUT = 4401;
const TOO_MANY = 4408;
const WRONG_VERSION = 4409;

/** @import { Frame, Hello, Pong } from "./store.js" */

/**
 * Clocks: `at` is monotonic (`performance.now()`), `wall` this machine's, both in ms.
 *
 * @typedef {"connecting" | "live" | "reconnecting" | "polling" | "signed-out" | "full"} Status
 *
 * @typedef {object} State
 * @property {Status} status
 * @property {number} since when it became that
 * @property {boolean} running whether somebody is signed in
 * @property {"none" | "opening" | "open"} socket
 * @property {boolean} hidden whether the tab is
 * @property {string[]} topics
 * @property {number} base the server's time less the monotonic one
 * @property {number} skew this machine's time less the monotonic one
 * @property {{trip: number, base: number}[]} pings
 * @property {number} beats
 * @property {number} heardAt when the server last spoke
 * @property {number} changes the store's count of changes when the connection was lost
 * @property {number} failures in a row, since the last good connection
 * @property {number} refused handshakes in a row, while polls are answered
 * @property {number} pollsLeft before a WebSocket is tried again
 * @property {boolean} looking whether a poll asks if the server is back
 * @property {number} turn the number of the last poll: answers to others come too late
 * @property {number} retryAt server time of the next try
 * @property {number} lostAt server time since when what is shown may be out of date, or 0
 * @property {{from: number, at: string}[]} losses when it was lost (server time in ms), and back (RFC 3339)
 * @property {number} applied how many items the last recovery changed
 * @property {boolean} outdated whether the server has another version of this page
 *
 * @typedef {object} Facts What every event comes with.
 * @property {number} at
 * @property {number} wall
 * @property {number} random 0 to 1
 * @property {number} changes the store's count of changes
 * @property {string | null} epoch
 * @property {Record<string, number>} revs the store's revision of each wanted topic
 * @property {boolean} current whether all of them came whole on this connection
 *
 * @typedef {{type: "started" | "left" | "retried" | "opened" | "waited" | "beat"}
 *	| {type: "wanted", topics: string[]}
 *	| {type: "framed", frame: Frame, accepted: boolean, assets: string}
 *	| {type: "closed", code: number}
 *	| {type: "hid", hidden: boolean}
 *	| {type: "polled", turn: number, status: number, hello: Hello | null, assets: string}} Happening
 * `assets` is the version of this page. `turn` is that of the poll; `hello` null if it was not answered well.
 *
 * @typedef {Happening & Facts} Event
 *
 * @typedef {{do: "open" | "close" | "tell"} | {do: "beat", on: boolean} | {do: "send", message: object}
 *	| {do: "wait", ms: number} | {do: "poll", turn: number}} Effect
 * "wait" takes the place of a wait before; "open" and "close" end it. "poll" with turn 0 only asks who refused.
 */

/** @returns {State} */
export const initial = (/** @type {{at: number, wall: number, hidden: boolean}} */ { at, wall, hidden }) => ({
	status: "connecting", since: 0, running: false, socket: "none", hidden, topics: [],
	base: wall - at, skew: wall - at, pings: [], beats: 0, heardAt: 0,
	changes: 0, failures: 0, refused: 0, pollsLeft: 0, looking: false, turn: 0,
	retryAt: 0, lostAt: 0, losses: [], applied: 0, outdated: false,
});

/** Whether the answer of a poll may go into the store. @param {State} state */
export const takesPolls = (state) => state.running && state.socket !== "open";

/**
 * The state after an event, and what is to be done, in order.
 * @param {State} before
 * @param {Event} event
 * @returns {{state: State, effects: Effect[]}}
 */
export function step(before, event) {
	const turn = new Turn(before, event);
	turn.take(event);
	return { state: turn.state, effects: turn.effects };
}

/** One event: changes a copy of the state, and collects effects. */
class Turn {
	/**
	 * @param {State} before
	 * @param {Facts} facts
	 */
	constructor(before, facts) {
		this.state = { ...before };
		this.facts = facts;
		/** @type {Effect[]} */
		this.effects = [];
	}

	/** @param {Event} event */
	take(event) {
		switch (event.type) {
			case "started": return this.start();
			case "left": return this.leave();
			case "retried": return this.retry();
			case "wanted": return this.want(event.topics);
			case "opened": return this.greetServer();
			case "framed": return this.hear(event);
			case "closed": return this.lose(this.state.socket === "open", event.code);
			case "waited": return this.waited();
			case "beat": return this.check(event.wall);
			case "hid": return this.hide(event.hidden);
			case "polled": return this.answered(event);
		}
	}

	start() {
		if (!this.state.running) this.effects.push({ do: "beat", on: true });
		this.state.running = true;
		this.become("connecting");
		this.open();
	}

	leave() {
		this.state.running = false;
		this.state.lostAt = 0;
		this.effects.push({ do: "beat", on: false });
		this.close();
		this.become("signed-out");
	}

	waited() {
		const { pollsLeft, status, failures } = this.state;
		if (pollsLeft) this.poll();
		else if (status === "reconnecting" && failures > FAILURES_BEFORE_LOOKING) this.look();
		else this.open();
	}

	/** Asks whether there is a server. */
	look() {
		this.state.looking = true;
		this.effects.push({ do: "poll", turn: 0 });
	}

	retry() {
		if (this.state.running && this.state.socket === "none") this.open();
	}

	open() {
		this.state.socket = "opening";
		this.state.looking = false;
		this.state.pollsLeft = 0;
		this.state.heardAt = this.facts.at;
		this.effects.push({ do: "open" });
	}

	close() {
		this.state.socket = "none";
		this.state.looking = false;
		this.state.pollsLeft = 0;
		this.effects.push({ do: "close" });
	}

	/** @param {object} message */
	send(message) {
		if (this.state.socket === "open") this.effects.push({ do: "send", message });
	}

	ping() {
		this.send({ t: "ping", c: this.facts.at });
	}

	hz() {
		return this.state.hidden ? HIDDEN_HZ : SEEN_HZ;
	}

	/** Says which revisions are here, so that only what is newer comes. */
	greetServer() {
		const { epoch, revs } = this.facts;
		this.state.socket = "open";
		this.send({ t: "hello", epoch, topics: revs, hz: this.hz(), lists: true });
		this.ping();
	}

	/** @param {string[]} topics */
	want(topics) {
		const before = this.state.topics;
		this.state.topics = [...new Set(topics)];
		for (const topic of this.state.topics) {
			if (!before.includes(topic)) this.send({ t: "sub", topic, rev: this.facts.revs[topic] });
		}
		for (const topic of before) {
			if (!this.state.topics.includes(topic)) this.send({ t: "unsub", topic });
		}
		if (this.state.status === "polling") this.beginPolling();
	}

	/** @param {boolean} hidden */
	hide(hidden) {
		this.state.hidden = hidden;
		this.send({ t: "rate", hz: this.hz() });
		if (hidden) return;
		this.ping();
		this.retry();
	}

	/** @param {Status} status */
	become(status) {
		const { state, facts } = this;
		if (status === "live" || status === "polling") {
			state.applied = facts.changes - state.changes;
			const at = new Date(facts.at + state.base).toISOString();
			if (state.lostAt) state.losses = [...state.losses, { from: state.lostAt, at }];
			state.lostAt = 0;
		}
		state.since = facts.at;
		state.status = status;
		this.effects.push({ do: "tell" });
	}

	/** @param {{frame: Frame, accepted: boolean, assets: string}} event */
	hear({ frame, accepted, assets }) {
		this.state.heardAt = this.facts.at;
		if (!accepted) this.lose(true);
		else if (frame.t === "hello") this.meet(frame, assets);
		else if (frame.t === "pong") this.measure(frame);
		else if (this.state.status !== "live" && (frame.t === "hb" || this.facts.current)) this.become("live");
	}

	/**
	 * @param {Hello} hello
	 * @param {string} assets
	 */
	meet(hello, assets) {
		this.state.pings = [];
		this.state.base = hello.now * 1000 - this.facts.at;
		this.state.outdated = hello.assets !== assets;
	}

	/** @param {Pong} pong */
	measure({ c: sentAt, now }) {
		const trip = this.facts.at - sentAt;
		const base = now * 1000 - sentAt - trip / 2;
		this.state.pings = [...this.state.pings.slice(1 - PINGS), { trip, base }];
		this.state.base = this.state.pings.reduce((best, ping) => (ping.trip < best.trip ? ping : best)).base;
	}

	/** Every second. @param {number} wall */
	check(wall) {
		const { state, facts: { at } } = this;
		const slept = Math.abs(wall - at - state.skew) > DRIFT_MS;
		state.skew = wall - at;
		if (slept) state.pings = []; // in sleep the monotonic clock may stand still
		if (!state.hidden) state.beats += 1;
		if (slept || (!state.hidden && state.beats % BEATS_BETWEEN_PINGS === 0)) this.ping();
		if (state.status === "live" && at - state.since > GOOD_AFTER_MS) {
			state.failures = 0;
			state.refused = 0;
		}
		if (state.socket !== "none" && at - state.heardAt > STALE_MS) this.lose(state.status === "live");
	}

	/**
	 * The socket is gone, or of no use. `opened` is false for a handshake that was refused.
	 * @param {boolean} opened
	 */
	lose(opened, code = 0) {
		const { state, facts } = this;
		this.close();
		if (code === SIGNED_OUT) return this.leave();
		if (state.status === "polling" && !opened) return this.beginPolling();
		if (state.status === "live" || state.status === "polling") state.changes = facts.changes;
		if (code === WRONG_VERSION) state.outdated = true;
		const now = facts.at + state.base;
		const silent_ms = facts.at - state.heardAt;
		if (!state.lostAt) state.lostAt = now - (silent_ms > STALE_MS ? silent_ms : 0);
		this.wait(code === TOO_MANY ? LONGEST_WAIT_MS : this.backoff());
		this.become(code === TOO_MANY ? "full" : "reconnecting");
		// A refused handshake does not say why: the session, a proxy that knows no WebSocket, or the server?
		if (!opened) this.effects.push({ do: "poll", turn: 0 });
	}

	/** Until the next try. @param {number} wait_ms */
	wait(wait_ms) {
		this.state.retryAt = this.facts.at + this.state.base + wait_ms;
		this.effects.push({ do: "wait", ms: wait_ms });
	}

	/** Full jitter, so that the pages of a server that comes back do not come all at once. */
	backoff() {
		const { state, facts } = this;
		const restarting = !state.hidden && facts.at + state.base - state.lostAt < RESTARTING_MS;
		const longest = restarting ? RESTARTING_WAIT_MS : LONGEST_WAIT_MS;
		const most = Math.min(longest, FIRST_WAIT_MS * 2 ** state.failures);
		state.failures += 1;
		return this.facts.random * most;
	}

	beginPolling() {
		this.state.pollsLeft = POLLS;
		this.poll();
	}

	poll() {
		this.state.pollsLeft -= 1;
		this.state.turn += 1;
		this.effects.push({ do: "poll", turn: this.state.turn });
	}

	/** @param {{turn: number, status: number, hello: Hello | null, assets: string}} event */
	answered({ turn, status, hello, assets }) {
		const { state } = this;
		if (!state.running) return;
		if (status === 401) return this.leave();
		if (hello) {
			this.meet(hello, assets);
			state.heardAt = this.facts.at;
		}
		if (turn === 0 && state.looking) this.looked(hello !== null);
		else if (turn === 0) this.probed(hello !== null);
		else if (turn === state.turn && state.socket === "none") this.polled(hello !== null);
	}

	/** @param {boolean} answered */
	looked(answered) {
		this.state.looking = false;
		if (answered) return this.open();
		this.wait(this.backoff());
		this.effects.push({ do: "tell" });
	}

	/** @param {boolean} answered */
	probed(answered) {
		this.state.refused = answered ? this.state.refused + 1 : 0;
		if (this.state.refused >= REFUSED_BEFORE_POLLING && this.state.socket === "none") this.beginPolling();
	}

	/** @param {boolean} answered */
	polled(answered) {
		if (!answered) return this.lose(true);
		if (this.state.status !== "polling") this.become("polling");
		this.effects.push({ do: "wait", ms: POLL_MS });
	}
}
