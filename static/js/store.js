// @ts-check
/** What the server said: a map of items per topic, its revision, and what changed since the last frame painted. */

const MOST_EVENTS = 500;

export class Store {
  /** @type {string|null} */
  epoch = null;
  /** Events skipped by the server for a slow connection; the one after such a gap has their number: `skipped`. */
  dropped = 0;
  /** How many items have changed. */
  changes = 0;
  #expected = 1;
  #topics = new Map();
  /** @type {Map<string, Set<string>>} */
  #dirty = new Map();
  #watchers = new Set();
  #schedule;

  constructor(schedule = nextFrame) {
    this.#schedule = schedule;
  }

  #topic(name) {
    if (!this.#topics.has(name)) {
      this.#topics.set(name, { items: new Map(), parts: new Map(), rev: 0, ready: false, current: false });
    }
    return this.#topics.get(name);
  }

  /** Read only; ids are strings. @returns {Map<string, any>} */
  items = (topic) => this.#topic(topic).items;
  /** Whether it ever came whole. */
  ready = (topic) => this.#topic(topic).ready;
  /** Whether it came whole on this connection. */
  current = (topic) => this.#topic(topic).current;
  rev = (topic) => this.#topic(topic).rev;
  /** All there is, as if it had just changed. */
  all = () => new Map([...this.#topics].map(([name, { items }]) => [name, new Set(items.keys())]));

  /** A new connection: its frames count from 1. */
  reset() {
    this.#expected = 1;
    for (const topic of this.#topics.values()) topic.current = false, topic.parts.clear();
  }

  /** Calls `fn(dirty: Map<topic, Set<id>>)` at most once per frame painted. */
  watch(fn, signal) {
    this.#watchers.add(fn);
    signal?.addEventListener("abort", () => this.#watchers.delete(fn));
  }

  /** False where a frame is missing: say hello again. */
  accept(frame) {
    if (frame.n !== this.#expected) return false;
    this.#expected += 1;
    if (frame.t === "hello") this.#hello(frame.epoch);
    const take = { snap: this.#snap, delta: this.#delta, ev: this.#append }[frame.t];
    if (!take) return true;
    const topic = this.#topic(frame.topic);
    if (!this.#dirty.size) this.#schedule(() => this.#flush());
    const ids = this.#dirty.get(frame.topic) ?? new Set();
    this.#dirty.set(frame.topic, ids);
    take.call(this, topic, frame, (id) => (ids.add(id), (this.changes += 1)));
    if (!frame.more) {
      topic.rev = frame.rev;
      topic.ready = topic.current = true;
    }
    return true;
  }

  /** A server that began anew counts its revisions and events anew. */
  #hello(epoch) {
    if (this.epoch !== null && this.epoch !== epoch) {
      for (const topic of this.#topics.values()) topic.rev = 0;
      this.items("events").clear();
    }
    this.epoch = epoch;
  }

  #snap({ items, parts }, frame, mark) {
    for (const id in frame.items) parts.set(id, frame.items[id]);
    if (frame.more) return;
    for (const id of new Set([...items.keys(), ...parts.keys()])) {
      if (JSON.stringify(items.get(id)) !== JSON.stringify(parts.get(id))) mark(id);
    }
    items.clear(); // in the order of the server, as a new page has them
    for (const [id, item] of parts) items.set(id, item);
    parts.clear();
  }

  #delta({ items }, { set, del = [] }, mark) {
    for (const id in set) {
      if (items.has(id)) Object.assign(items.get(id), set[id]);
      else items.set(id, set[id]);
      mark(id);
    }
    for (const id of del) {
      if (items.delete(id)) mark(id);
    }
  }

  #append({ items }, frame, mark) {
    let skipped = frame.dropped ?? 0;
    this.dropped += skipped;
    for (const event of frame.items) {
      items.set(String(event.id), skipped ? { ...event, skipped } : event);
      mark(String(event.id));
      skipped = 0;
    }
    for (const id of items.keys()) {
      if (items.size > MOST_EVENTS) items.delete(id), mark(id);
    }
  }

  #flush() {
    const dirty = this.#dirty;
    this.#dirty = new Map();
    for (const fn of this.#watchers) fn(dirty);
  }
}

/** A hidden tab paints nothing, yet its title has to tell of trouble. */
function nextFrame(flush) {
  const run = () => (cancelAnimationFrame(frame), clearTimeout(timer), flush());
  const frame = requestAnimationFrame(run);
  const timer = setTimeout(run, 1000);
}
