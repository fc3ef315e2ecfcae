/** The feed into the store: a WebSocket that comes back by itself, or the same frames by polling. */

const STALE_MS = 25_000; // the server speaks every 10 s
const POLL_MS = 3000;
const URL_OF = new URL("api/live", document.baseURI).href;
const hz = () => (document.hidden ? 0.2 : 20);

/** `state`: connecting, live, reconnecting, polling, signed-out or full. `retryAt` and `lostAt` (0: nothing is lost)
 * are server times in ms; `losses` tell when it was lost (`from`) and back (`at`, RFC 3339), `applied` how many items
 * the last recovery changed, `outdated` whether the server has another version of this page. */
export function connect(store) {
	let base = Date.now() - performance.now(), skew = base;
	let socket = null, topics = [], pings = [], tell = () => {};
	let seen = 0, since = 0, changes = 0, failures = 0, blocked = 0, timer = 0, beat = 0, beats = 0;
	/** The server's time in ms; setting this machine's clock does not move it. */
	const now = () => performance.now() + base;
	const live = { state: "connecting", retryAt: 0, lostAt: 0, losses: [], applied: 0, outdated: false,
		now, start, leave, retry, want, onstate(fn) { tell = fn; } };

	function start() {
		beat ||= setInterval(check, 1000);
		set("connecting");
		open();
	}

	function leave() {
		clearInterval(beat);
		beat = live.lostAt = 0;
		close();
		set("signed-out");
	}

	function retry() {
		if (beat && !socket) open();
	}

	function want(wanted) {
		const before = topics;
		topics = [...new Set(wanted)];
		for (const topic of topics) before.includes(topic) || send({ t: "sub", topic, rev: store.rev(topic) });
		for (const topic of before) topics.includes(topic) || send({ t: "unsub", topic });
		if (live.state === "polling") polling();
	}

	function set(state) {
		if (state === "live" || state === "polling") {
			live.applied = store.changes - changes;
			if (live.lostAt) live.losses.push({ from: live.lostAt, at: new Date(now()).toISOString() });
			live.lostAt = 0;
		}
		since = performance.now();
		live.state = state;
		tell();
	}

	function send(message) {
		if (socket?.readyState === 1) socket.send(JSON.stringify(message));
	}
	const ping = () => send({ t: "ping", c: performance.now() });
	const revs = () => topics.map((topic) => [topic, store.rev(topic)]);

	function close() {
		clearTimeout(timer);
		const old = socket;
		socket = null;
		old?.close();
	}

	function open() {
		close();
		const mine = (socket = new WebSocket(URL_OF.replace(/^http/, "ws"), "cproxy.admin.v1"));
		let opened = false;
		seen = performance.now();
		mine.onopen = () => {
			opened = true;
			store.reset();
			send({ t: "hello", epoch: store.epoch, topics: Object.fromEntries(revs()), hz: hz() });
			ping();
		};
		mine.onmessage = ({ data }) => socket === mine && take(JSON.parse(data));
		mine.onclose = ({ code }) => socket === mine && lost(opened, code);
	}

	function take(frame) {
		seen = performance.now();
		if (!store.accept(frame)) lost(true);
		else if (frame.t === "hello") greet(frame);
		else if (frame.t === "pong") measure(frame);
		else if (live.state !== "live" && (frame.t === "hb" || topics.every(store.current))) set("live");
	}

	function greet(hello) {
		pings = [];
		base = hello.now * 1000 - performance.now();
		live.outdated = !import.meta.url.includes(`/${hello.assets}/`);
	}

	/** Of the last 8 pings the fastest tells the time best. */
	function measure({ c, now: then }) {
		const trip = performance.now() - c;
		pings = [...pings.slice(-7), { trip, base: then * 1000 - c - trip / 2 }];
		base = pings.reduce((a, b) => (b.trip < a.trip ? b : a)).base;
	}

	function check() {
		const at = performance.now(), slept = Math.abs(Date.now() - at - skew) > 1000;
		skew = Date.now() - at;
		if (slept) pings = []; // in sleep performance.now() may stand still
		if (slept || (!document.hidden && ++beats % 15 === 0)) ping();
		if (live.state === "live" && at - since > 10_000) failures = blocked = 0;
		if (socket && at - seen > STALE_MS) lost(live.state === "live");
	}

	async function lost(opened, code = 0) {
		close();
		if (code === 4401) return leave();
		if (live.state === "polling" && !opened) return polling();
		if (live.state === "live" || live.state === "polling") changes = store.changes;
		live.outdated ||= code === 4409;
		const silent_ms = performance.now() - seen;
		live.lostAt ||= now() - (silent_ms > STALE_MS ? silent_ms : 0);
		const wait_ms = code === 4408 ? 30_000 : Math.random() * Math.min(30_000, 500 * 2 ** failures++);
		live.retryAt = now() + wait_ms;
		timer = setTimeout(open, wait_ms);
		set(code === 4408 ? "full" : "reconnecting");
		if (opened) return;
		// A refused handshake does not say why: the session, a proxy that knows no WebSocket, or the server?
		blocked = (await poll()) ? blocked + 1 : 0;
		if (blocked >= 3 && !socket && beat) polling();
	}

	async function polling(times = 10) {
		clearTimeout(timer);
		if (!(await poll())) return beat && !socket && lost(true);
		if (live.state !== "polling") set("polling");
		timer = setTimeout(() => (times ? polling(times - 1) : open()), POLL_MS);
	}

	/** Resolves with whether it was answered. */
	async function poll() {
		const query = `epoch=${store.epoch ?? ""}&topics=${revs().map((pair) => pair.join(":"))}`;
		try {
			const response = await fetch(`${URL_OF}?${query}`, { cache: "no-store" });
			if (response.status === 401) return leave();
			const { frames } = await response.json();
			if (!beat || socket?.readyState === 1) return false;
			store.reset();
			frames.forEach(store.accept);
			greet(frames[0]);
			seen = performance.now();
			return true;
		} catch {
			return false;
		}
	}

	addEventListener("online", retry);
	document.addEventListener("visibilitychange", () => {
		send({ t: "rate", hz: hz() });
		if (!document.hidden) ping(), retry();
	});
	return live;
}
