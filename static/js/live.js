// @ts-check
/** The feed into the store: owns the WebSocket, the timers and the polls that `connection.js` asks for. */
import { initial, step, takesPolls } from "./connection.js";

const BEAT_MS = 1000;
/** A poll that takes longer is not answered: what it asks for is a second's work at most. */
const POLL_TIMEOUT_MS = 10_000;
const SUBPROTOCOL = "cproxy.admin.v1";
const ADDRESS = new URL("api/live", document.baseURI).href;
/** The version of this page: it stands in the address of its files. */
const [, ASSETS = ""] = /\/([^/]+)\/js\/live\.js$/.exec(import.meta.url) ?? [];

/** @import { Effect, Happening } from "./connection.js" */
/** @import { Frame, Store } from "./store.js" */

/** @param {Store} store */
export const connect = (store) => new Live(store);

export class Live {
	/** @param {Store} store */
	constructor(store) {
		this.store = store;
		this.connection = initial({ at: performance.now(), wall: Date.now(), hidden: document.hidden });
		/** @type {WebSocket | null} */
		this.socket = null;
		/** That of the next try or poll. */
		this.timer = 0;
		/** That of every second. */
		this.beat = 0;
		this.tell = () => {};
		addEventListener("online", this.retry);
		document.addEventListener("visibilitychange", () => this.dispatch({ type: "hid", hidden: document.hidden }));
	}

	get state() { return this.connection.status; }
	get retryAt() { return this.connection.retryAt; }
	get lostAt() { return this.connection.lostAt; }
	get losses() { return this.connection.losses; }
	get applied() { return this.connection.applied; }
	get outdated() { return this.connection.outdated; }

	/** The server's time in ms; setting this machine's clock does not move it. */
	now = () => performance.now() + this.connection.base;
	start = () => this.dispatch({ type: "started" });
	leave = () => this.dispatch({ type: "left" });
	retry = () => this.dispatch({ type: "retried" });

	/** @param {string[]} topics */
	want(topics) {
		this.dispatch({ type: "wanted", topics });
	}

	/** Has `fn` called whenever the state is another. @param {() => void} fn */
	onstate(fn) {
		this.tell = fn;
	}

	/** @param {Happening} happening */
	dispatch(happening) {
		const { store } = this;
		const topics = happening.type === "wanted" ? happening.topics : this.connection.topics;
		const { state, effects } = step(this.connection, {
			...happening,
			at: performance.now(),
			wall: Date.now(),
			random: Math.random(),
			changes: store.changes,
			epoch: store.epoch,
			revs: Object.fromEntries(topics.map((topic) => [topic, store.rev(topic)])),
			current: topics.every((topic) => store.current(topic)),
		});
		this.connection = state;
		for (const effect of effects) this.perform(effect);
	}

	/** @param {Effect} effect */
	perform(effect) {
		switch (effect.do) {
			case "open": return this.open();
			case "close": return this.close();
			case "send": return this.send(effect.message);
			case "wait": return this.wait(effect.ms);
			case "poll": return this.poll(effect.turn);
			case "beat": return this.setBeat(effect.on);
			case "tell": return this.tell();
		}
	}

	open() {
		this.close();
		const mine = new WebSocket(ADDRESS.replace(/^http/, "ws"), SUBPROTOCOL);
		this.socket = mine;
		mine.onopen = () => {
			if (this.socket !== mine) return;
			this.store.reset();
			this.dispatch({ type: "opened" });
		};
		mine.onmessage = ({ data }) => {
			/** @type {Frame[]} */
			const frames = [JSON.parse(data)].flat();
			for (const frame of frames) {
				if (this.socket !== mine) return;
				this.dispatch({ type: "framed", frame, accepted: this.store.accept(frame), assets: ASSETS });
			}
		};
		mine.onclose = ({ code }) => {
			if (this.socket === mine) this.dispatch({ type: "closed", code });
		};
	}

	close() {
		clearTimeout(this.timer);
		const old = this.socket;
		this.socket = null; // first: what it says from now on is not heard
		old?.close();
	}

	/** @param {object} message */
	send(message) {
		if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
	}

	/** @param {number} ms */
	wait(ms) {
		clearTimeout(this.timer);
		this.timer = setTimeout(() => this.dispatch({ type: "waited" }), ms);
	}

	/** @param {boolean} on */
	setBeat(on) {
		clearInterval(this.beat);
		this.beat = on ? setInterval(() => this.dispatch({ type: "beat" }), BEAT_MS) : 0;
	}

	/** Asks for the same frames without a WebSocket. @param {number} turn */
	async poll(turn) {
		if (turn) clearTimeout(this.timer); // a wait for the next try goes on while it is asked who refused
		const { status, frames } = await this.fetchFrames();
		let hello = null;
		if (takesPolls(this.connection) && frames[0]?.t === "hello") {
			hello = frames[0];
			this.store.reset();
			for (const frame of frames) this.store.accept(frame);
		}
		this.dispatch({ type: "polled", turn, status, hello, assets: ASSETS });
	}

	/** `status` 0 if no answer came. @returns {Promise<{status: number, frames: Frame[]}>} */
	async fetchFrames() {
		const { store } = this;
		const topics = this.connection.topics.map((topic) => `${topic}:${store.rev(topic)}`);
		const query = `epoch=${store.epoch ?? ""}&topics=${topics}`;
		let status = 0;
		try {
			const response = await fetch(`${ADDRESS}?${query}`, { cache: "no-store", signal: AbortSignal.timeout(POLL_TIMEOUT_MS) });
			status = response.status;
			const { frames } = await response.json();
			return { status, frames: frames ?? [] };
		} catch {
			return { status, frames: [] };
		}
	}
}
