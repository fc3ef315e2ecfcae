/** A server in small for the tests of the store: topics with revisions, deltas, deletions, epochs, snapshots in pieces.
 *
 * That the real one speaks like this is tested by `tests/e2e/test_convergence.py`, with the same store. */

const IDS = 12;
const MOST_DELETIONS = 3;

/** Numbers by chance that are the same for the same seed (mulberry32). */
export function random(seed) {
	let state = seed + 1;
	const next = () => {
		state = (state + 0x6d2b79f5) | 0;
		let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
		mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
		return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
	};
	return {
		next,
		below: (n) => Math.floor(next() * n),
		of: (part) => next() < part,
	};
}

export class Server {
	constructor(chance) {
		this.chance = chance;
		this.starts = 0;
		this.restart();
	}

	restart() {
		this.starts += 1;
		this.epoch = `e${this.starts}`;
		this.rev = 0;
		this.topics = { accounts: new Map(), sessions: new Map() };
		this.deletions = { accounts: [], sessions: [] };
		/** Revisions up to here cannot be caught up from. */
		this.forgotten = { accounts: 0, sessions: 0 };
		this.events = [];
		for (let n = this.chance.below(8); n > 0; n -= 1) this.change();
	}

	change() {
		const { chance } = this;
		const topic = chance.of(0.5) ? "accounts" : "sessions";
		const id = `id_${chance.below(IDS)}`;
		this.rev += 1;
		if (chance.of(0.2)) this.events.push({ id: this.events.length + 1, text: `event ${chance.next()}`, rev: this.rev });
		if (chance.of(0.25)) this.delete(topic, id);
		else this.set(topic, id);
	}

	set(topic, id) {
		const before = this.topics[topic].get(id)?.fields ?? { a: 0, b: 0, c: 0 };
		const fields = { ...before, ["abc"[this.chance.below(3)]]: this.chance.next() };
		this.topics[topic].set(id, { rev: this.rev, fields });
	}

	delete(topic, id) {
		if (!this.topics[topic].delete(id)) return;
		const deletions = this.deletions[topic];
		deletions.push({ id, rev: this.rev });
		if (deletions.length > MOST_DELETIONS) this.forgotten[topic] = deletions.shift().rev;
	}

	/** The frames that bring a page with revision `since` up to date. */
	frames(topic, since) {
		const { rev } = this;
		if (topic === "events") {
			const items = this.events.filter((event) => event.rev > since).map(({ id, text }) => ({ id, text }));
			return items.length || !since ? [{ t: "ev", topic, rev, items }] : [];
		}
		const entries = [...this.topics[topic]];
		if (!since || since < this.forgotten[topic]) {
			const half = Math.ceil(entries.length / 2);
			return [entries.slice(0, half), entries.slice(half)].map((part, n) => {
				const items = Object.fromEntries(part.map(([id, { fields }]) => [id, { ...fields }]));
				return { t: "snap", topic, rev, items, ...(n === 0 && { more: true }) };
			});
		}
		const set = Object.fromEntries(entries.filter(([, item]) => item.rev > since)
			.map(([id, { fields }]) => [id, { ...fields }]));
		const del = this.deletions[topic].filter((one) => one.rev > since && !this.topics[topic].has(one.id))
			.map(({ id }) => id);
		return [{ t: "delta", topic, rev, set, del }];
	}

	items() {
		const fields = (topic) => Object.fromEntries([...this.topics[topic]].map(([id, item]) => [id, item.fields]));
		const events = Object.fromEntries(this.events.map(({ id, text }) => [id, { id, text }]));
		return { accounts: fields("accounts"), sessions: fields("sessions"), events };
	}
}

/** One socket: the frames that are on their way, from what the page says that it has. */
export class Connection {
	constructor(server, page, topics) {
		this.server = server;
		this.n = 0;
		const known = page.epoch === server.epoch;
		this.seen = Object.fromEntries(topics.map((topic) => [topic, known ? page.rev(topic) : 0]));
		this.frames = [];
		this.push({ t: "hello", epoch: server.epoch });
		this.send(topics);
	}

	/** Puts what is new in these topics on its way. */
	send(topics) {
		for (const topic of topics) {
			const frames = this.server.frames(topic, this.seen[topic]);
			for (const frame of frames) this.push(frame);
			if (frames.length) this.seen[topic] = this.server.rev;
		}
	}

	heartbeat() {
		this.push({ t: "hb", now: 0 });
	}

	push(frame) {
		this.n += 1;
		this.frames.push(structuredClone({ n: this.n, ...frame }));
	}
}
