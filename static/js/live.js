// @ts-check
/** The server's feed into the store: a WebSocket that comes back by itself, or the same frames by polling. */

const STALE_MS = 25_000; // the server speaks every 10 s
const POLL_MS = 3000;
const hz = () => (document.hidden ? 0.2 : 20);

export class Live {
  /** @type {"connecting"|"live"|"reconnecting"|"polling"|"signed-out"|"full"} */
  state = "connecting";
  /** Server times in ms: of the next try, and of the loss (0: none). */
  retryAt = 0;
  lostAt = 0;
  /** How many items the last recovery changed. */
  applied = 0;
  /** Whether the server has another version of this page. */
  outdated = false;
  #store; #url;
  #socket = null;
  #topics = [];
  #listeners = [];
  #pings = [];
  #base = Date.now() - performance.now();
  #skew = this.#base;
  #seen = 0; #since = 0; #changes = 0; #failures = 0; #blocked = 0; #timer = 0; #beat = 0; #beats = 0;

  constructor(store, url = new URL("api/live", document.baseURI).href) {
    this.#store = store;
    this.#url = url;
    addEventListener("online", () => this.retry());
    document.addEventListener("visibilitychange", () => {
      this.#send({ t: "rate", hz: hz() });
      if (!document.hidden) this.#ping(), this.retry();
    });
  }

  /** The server's time in ms; setting this machine's clock does not move it. */
  now = () => performance.now() + this.#base;
  get offset() {
    return this.now() - Date.now();
  }
  onstate = (fn) => void this.#listeners.push(fn);

  start() {
    this.#beat ||= setInterval(() => this.#check(), 1000);
    this.#set("connecting");
    this.#connect();
  }

  /** The session has ended. */
  leave() {
    clearInterval(this.#beat);
    this.#beat = this.lostAt = 0;
    this.#close();
    this.#set("signed-out");
  }

  /** Now, instead of waiting. */
  retry() {
    if (this.#beat && !this.#socket) this.#connect();
  }

  /** The topics that are needed from now on. */
  want(topics) {
    const before = new Set(this.#topics), now = new Set(topics);
    this.#topics = [...now];
    for (const topic of now) before.has(topic) || this.#send({ t: "sub", topic,
      rev: this.#store.rev(topic) });
    for (const topic of before) now.has(topic) || this.#send({ t: "unsub", topic });
    if (this.state === "polling") this.#polling();
  }

  #set(state) {
    if (state === "live" || state === "polling") {
      this.applied = this.#store.changes - this.#changes;
      this.lostAt = 0;
    }
    this.#since = performance.now();
    this.state = state;
    for (const fn of this.#listeners) fn();
  }

  #send(message) {
    if (this.#socket?.readyState === 1) this.#socket.send(JSON.stringify(message));
  }

  #ping = () => this.#send({ t: "ping", c: performance.now() });
  #revs = () => this.#topics.map((topic) => [topic, this.#store.rev(topic)]);

  #close() {
    clearTimeout(this.#timer);
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
  }

  #connect() {
    this.#close();
    const socket = (this.#socket = new WebSocket(this.#url.replace(/^http/, "ws"), "cproxy.admin.v1"));
    let opened = false;
    this.#seen = performance.now();
    socket.onopen = () => {
      opened = true;
      this.#store.reset();
      const topics = Object.fromEntries(this.#revs());
      this.#send({ t: "hello", epoch: this.#store.epoch, topics, hz: hz() });
      this.#ping();
    };
    socket.onmessage = ({ data }) => this.#socket === socket && this.#take(JSON.parse(data));
    socket.onclose = ({ code }) => this.#socket === socket && this.#lost(opened, code);
  }

  #take(frame) {
    this.#seen = performance.now();
    if (!this.#store.accept(frame)) this.#lost(true);
    else if (frame.t === "hello") this.#greet(frame);
    else if (frame.t === "pong") this.#measure(frame);
    else if (this.state === "live") return;
    else if (frame.t === "hb" || this.#topics.every(this.#store.current)) this.#set("live");
  }

  #greet({ now, assets }) {
    this.#pings = [];
    this.#base = now * 1000 - performance.now();
    this.outdated = Boolean(assets) && !import.meta.url.includes(`/${assets}/`);
  }

  /** Of the last 8 pings the fastest tells the time best. */
  #measure({ c, now }) {
    const trip = performance.now() - c;
    this.#pings = [...this.#pings.slice(-7), { trip, base: now * 1000 - c - trip / 2 }];
    this.#base = this.#pings.reduce((a, b) => (b.trip < a.trip ? b : a)).base;
  }

  #check() {
    const now = performance.now(), skew = Date.now() - now;
    const slept = Math.abs(skew - this.#skew) > 1000; // in sleep performance.now() may stand still
    this.#skew = skew;
    if (slept) this.#pings = [];
    if (slept || (!document.hidden && ++this.#beats % 15 === 0)) this.#ping();
    if (this.state === "live" && now - this.#since > 10_000) this.#failures = this.#blocked = 0;
    if (this.#socket && now - this.#seen > STALE_MS) this.#lost(this.state === "live");
  }

  async #lost(opened, code = 0) {
    this.#close();
    if (code === 4401) return this.leave();
    if (this.state === "polling" && !opened) return this.#polling();
    if (this.state === "live" || this.state === "polling") this.#changes = this.#store.changes;
    this.outdated ||= code === 4409;
    const silent_ms = performance.now() - this.#seen;
    this.lostAt ||= this.now() - (silent_ms > STALE_MS ? silent_ms : 0);
    const wait_ms = code === 4408 ? 30_000 : Math.random() * Math.min(30_000, 500 * 2 ** this.#failures++);
    this.retryAt = this.now() + wait_ms;
    this.#timer = setTimeout(() => this.#connect(), wait_ms);
    this.#set(code === 4408 ? "full" : "reconnecting");
    if (opened) return;
    // A refused handshake does not say why: the session, a proxy that knows no WebSocket, or the server?
    this.#blocked = (await this.#poll()) ? this.#blocked + 1 : 0;
    if (this.#blocked >= 3 && !this.#socket && this.#beat) this.#polling();
  }

  async #polling(times = 10) {
    clearTimeout(this.#timer);
    if (!(await this.#poll())) return this.#beat && !this.#socket && this.#lost(true);
    if (this.state !== "polling") this.#set("polling");
    this.#timer = setTimeout(() => (times ? this.#polling(times - 1) : this.#connect()), POLL_MS);
  }

  /** Whether it was answered. */
  async #poll() {
    const topics = this.#revs().map((pair) => pair.join(":")).join();
    try {
      const response = await fetch(`${this.#url}?epoch=${this.#store.epoch ?? ""}&topics=${topics}`,
        { cache: "no-store" });
      if (response.status === 401) return this.leave();
      const { frames } = await response.json();
      if (!this.#beat || this.#socket?.readyState === 1) return false;
      this.#store.reset();
      for (const frame of frames) {
        if (frame.t === "hello") this.#greet(frame);
        this.#store.accept(frame);
      }
      this.#seen = performance.now();
      return true;
    } catch {
      return false;
    }
  }
}
