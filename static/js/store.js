/** What the server said: per topic its items and revision; and what changed since the last paint. */

const MOST_EVENTS = 1000; // as many as the server keeps

export function createStore(schedule = nextFrame) {
	const topics = new Map(), watchers = new Set();
	let epoch = null, expected = 1, changes = 0, dirty = new Map();

	function get(name) {
		if (!topics.has(name)) {
			topics.set(name, { items: new Map(), parts: new Map(), rev: 0, ready: false, current: false });
		}
		return topics.get(name);
	}

	/** A new connection: its frames count from 1. */
	function reset() {
		expected = 1;
		for (const topic of topics.values()) topic.current = false, topic.parts.clear();
	}

	/** Calls `fn(dirty: Map<topic, Set<id>>)` at most once per frame painted. */
	function watch(fn, signal) {
		watchers.add(fn);
		signal?.addEventListener("abort", () => watchers.delete(fn));
	}

	/** False where a frame is missing: say hello again. */
	function accept(frame) {
		if (frame.n !== expected) return false;
		expected += 1;
		if (frame.t === "hello") hello(frame.epoch);
		const take = { snap, delta, ev }[frame.t];
		if (!take) return true;
		const topic = get(frame.topic);
		if (!dirty.size) schedule(flush);
		if (!dirty.has(frame.topic)) dirty.set(frame.topic, new Set());
		const ids = dirty.get(frame.topic);
		take(topic.items, frame, (id) => (ids.add(id), (changes += 1)), topic.parts);
		if (!frame.more) {
			topic.rev = frame.rev;
			topic.ready = topic.current = true;
		}
		return true;
	}

	/** A server that began anew counts its revisions and events anew. */
	function hello(now) {
		if (epoch !== null && epoch !== now) {
			for (const topic of topics.values()) topic.rev = 0;
			get("events").items.clear();
		}
		epoch = now;
	}

	function flush() {
		const news = dirty;
		dirty = new Map();
		for (const fn of watchers) fn(news);
	}

	return {
		reset, watch, accept,
		get epoch() { return epoch; },
		get changes() { return changes; },
		/** Read only, by id. */
		items: (topic) => get(topic).items,
		/** It came whole: ever, and on this connection. */
		ready: (topic) => get(topic).ready,
		current: (topic) => get(topic).current,
		rev: (topic) => get(topic).rev,
		/** All there is, as if it had just changed. */
		all: () => new Map([...topics].map(([name, { items }]) => [name, new Set(items.keys())])),
	};
}

function snap(items, frame, mark, parts) {
	for (const id in frame.items) parts.set(id, frame.items[id]);
	if (frame.more) return;
	for (const id of new Set([...items.keys(), ...parts.keys()])) {
		if (JSON.stringify(items.get(id)) !== JSON.stringify(parts.get(id))) mark(id);
	}
	items.clear(); // in the order of the server, as a new page has them
	for (const [id, item] of parts) items.set(id, item);
	parts.clear();
}

function delta(items, { set, del }, mark) {
	for (const id in set) {
		if (items.has(id)) Object.assign(items.get(id), set[id]);
		else items.set(id, set[id]);
		mark(id);
	}
	for (const id of del) {
		if (items.delete(id)) mark(id);
	}
}

/** The event after a gap has the number of those missing as `skipped`. */
function ev(items, { items: events, dropped: skipped = 0 }, mark) {
	for (const event of events) {
		items.set(String(event.id), skipped ? { ...event, skipped } : event);
		mark(String(event.id));
		skipped = 0;
	}
	for (const id of items.keys()) {
		if (items.size > MOST_EVENTS) items.delete(id), mark(id);
	}
}

/** A hidden tab paints nothing, yet its title has to tell of trouble. */
function nextFrame(flush) {
	const run = () => (cancelAnimationFrame(frame), clearTimeout(timer), flush());
	const frame = requestAnimationFrame(run);
	const timer = setTimeout(run, 1000);
}
