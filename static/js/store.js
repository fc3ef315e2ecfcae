// @ts-check
/** What the server said: per topic its items and revision, and what changed since the last paint. */

/** Of a log: as many events as the server keeps, and as many requests as are shown live. */
const MOST_LINES = 1000;
/** The topics that only grow: their lines are numbered. */
const LOGS = ["events", "requests"];
/** A hidden tab paints nothing, yet its title has to tell of trouble. */
const UNPAINTED_MS = 1000;

/** @import { Dirty, Topics } from "./types.js" */

/**
 * @typedef {Record<string, any>} Item
 * @typedef {{n: number, t: "hello", epoch: string, now: number, assets: string}} Hello
 * @typedef {{n: number, t: "snap", topic: string, rev: number, items: Record<string, Item>, more?: boolean}} Snap
 * @typedef {{n: number, t: "delta", topic: string, rev: number, set: Record<string, Item>, del: string[],
 *	more?: boolean}} Delta
 * @typedef {{n: number, t: "ev", topic: string, rev: number, items: Item[], dropped?: number, more?: boolean}} Ev
 * @typedef {{n: number, t: "hb", now: number}} Heartbeat
 * @typedef {{n: number, t: "pong", c: number, now: number}} Pong
 * @typedef {Hello | Snap | Delta | Ev | Heartbeat | Pong} Frame
 *
 * @typedef {object} Topic
 * @property {Map<string, Item>} items
 * @property {Map<string, Item>} parts of a snapshot that has not come whole yet
 * @property {number} rev
 * @property {boolean} ready whether it ever came whole
 * @property {boolean} current whether it came whole on this connection
 *
 * @typedef {(id: string) => void} Mark notes that an item has changed
 */

/**
 * `schedule` calls the flush that it is given when it is time to paint.
 * @param {(flush: () => void) => void} schedule
 */
export const createStore = (schedule = nextFrame) => new Store(schedule);

export class Store {
	/** @param {(flush: () => void) => void} schedule */
	constructor(schedule) {
		this.schedule = schedule;
		/** @type {Map<string, Topic>} */
		this.topics = new Map();
		/** @type {Set<(dirty: Dirty) => void>} */
		this.watchers = new Set();
		/** @type {string | null} */
		this.epoch = null;
		/** The number of the next frame. */
		this.expected = 1;
		/** How many changes of items there were. */
		this.changes = 0;
		/** @type {Dirty} */
		this.dirty = new Map();
	}

	/** @param {string} name */
	topic(name) {
		let topic = this.topics.get(name);
		if (!topic) {
			topic = { items: new Map(), parts: new Map(), rev: 0, ready: false, current: false };
			this.topics.set(name, topic);
		}
		return topic;
	}

	/**
	 * By id, to be read only.
	 * @template {string} Name
	 * @param {Name} topic
	 * @returns {Map<string, Name extends keyof Topics ? Topics[Name] : any>}
	 */
	items(topic) {
		return /** @type {Map<string, any>} */ (this.topic(topic).items);
	}

	/** Whether it ever came whole. @param {string} topic */
	ready(topic) {
		return this.topic(topic).ready;
	}

	/** Whether it came whole on this connection. @param {string} topic */
	current(topic) {
		return this.topic(topic).current;
	}

	/** @param {string} topic */
	rev(topic) {
		return this.topic(topic).rev;
	}

	/** All there is, as if it had just changed. @returns {Dirty} */
	all() {
		return new Map([...this.topics].map(([name, { items }]) => [name, new Set(items.keys())]));
	}

	/**
	 * Calls `fn` with what has changed, at most once a frame painted.
	 * @param {(dirty: Dirty) => void} fn
	 * @param {AbortSignal} [signal]
	 */
	watch(fn, signal) {
		this.watchers.add(fn);
		signal?.addEventListener("abort", () => this.watchers.delete(fn));
	}

	/** Begins a new connection: its frames count from 1. */
	reset() {
		this.expected = 1;
		for (const topic of this.topics.values()) {
			topic.current = false;
			topic.parts.clear();
		}
	}

	/**
	 * False if a frame is missing: say hello again.
	 * @param {Frame} frame
	 */
	accept(frame) {
		if (frame.n !== this.expected) return false;
		this.expected += 1;
		if (frame.t === "hello") this.greet(frame.epoch);
		else if ("topic" in frame) this.take(frame);
		return true;
	}

	/** A server that began anew counts its revisions and the lines of its logs anew. @param {string} epoch */
	greet(epoch) {
		if (this.epoch !== null && this.epoch !== epoch) {
			for (const topic of this.topics.values()) topic.rev = 0;
			for (const log of LOGS) this.topic(log).items.clear();
		}
		this.epoch = epoch;
	}

	/** @param {Snap | Delta | Ev} frame */
	take(frame) {
		const topic = this.topic(frame.topic);
		const mark = this.marker(frame.topic);
		if (frame.t === "snap") takeSnapshot(topic, frame, mark);
		else if (frame.t === "delta") takeDelta(topic, frame, mark);
		else if (frame.t === "ev") takeLines(topic, frame, mark);
		if (frame.more) return;
		topic.rev = frame.rev;
		topic.ready = true;
		topic.current = true;
	}

	/** Notes changes of a topic, to be told at the next paint. @param {string} name @returns {Mark} */
	marker(name) {
		if (!this.dirty.size) this.schedule(() => this.flush());
		const ids = this.dirty.get(name) ?? new Set();
		this.dirty.set(name, ids);
		return (id) => {
			ids.add(id);
			this.changes += 1;
		};
	}

	flush() {
		const news = this.dirty;
		this.dirty = new Map();
		for (const fn of this.watchers) fn(news);
	}
}

/**
 * @param {Topic} topic
 * @param {Snap} frame
 * @param {Mark} mark
 */
function takeSnapshot({ items, parts }, frame, mark) {
	for (const [id, item] of Object.entries(frame.items)) parts.set(id, item);
	if (frame.more) return;
	for (const id of new Set([...items.keys(), ...parts.keys()])) {
		if (JSON.stringify(items.get(id)) !== JSON.stringify(parts.get(id))) mark(id);
	}
	items.clear(); // so that they stand in the order of the server, as in a new page
	for (const [id, item] of parts) items.set(id, item);
	parts.clear();
}

/**
 * @param {Topic} topic
 * @param {Delta} frame
 * @param {Mark} mark
 */
function takeDelta({ items }, frame, mark) {
	for (const [id, fields] of Object.entries(frame.set)) {
		const item = items.get(id);
		if (item) Object.assign(item, fields);
		else items.set(id, fields);
		mark(id);
	}
	for (const id of frame.del) {
		if (items.delete(id)) mark(id);
	}
}

/**
 * The line after a gap gets the number of those missing as `skipped`.
 * @param {Topic} topic
 * @param {Ev} frame
 * @param {Mark} mark
 */
function takeLines({ items }, frame, mark) {
	let skipped = frame.dropped ?? 0;
	for (const event of frame.items) {
		const id = String(event.id);
		items.set(id, skipped ? { ...event, skipped } : event);
		mark(id);
		skipped = 0;
	}
	for (const id of items.keys()) {
		if (items.size <= MOST_LINES) break;
		items.delete(id);
		mark(id);
	}
}

/** @param {() => void} flush */
function nextFrame(flush) {
	const run = () => {
		cancelAnimationFrame(frame);
		clearTimeout(timer);
		flush();
	};
	const frame = requestAnimationFrame(run);
	const timer = setTimeout(run, UNPAINTED_MS);
}
