/** The page: boot, routes, settings. Builds `app`, which every view is handed. */
import { api } from "./api.js";
import { act, h, setAttr } from "./dom.js";
import { ago, clock, until } from "./format.js";
import { VIEWS, header } from "./header.js";
import { connect } from "./live.js";
import { createStore } from "./store.js";
import english from "./strings.en.js";

const FIRST = ["login", "overview", "accounts"];
const PREFIX = "cproxy.";

const byId = (id) => document.getElementById(id), heading = () => byId("view").querySelector("h2");
const strings = { ...english }, known = {};
const store = createStore();
const live = connect(store);
let view, shown, more, later, turn = 0;

/** Text by key; with `n`, `key_one` or `key_other`. A key that has none is its own: "log_out" is "Log out". */
function t(key, params = {}) {
	const text = strings[key] ?? strings[`${key}_${params.n === 1 ? "one" : "other"}`] ??
		(key[0].toUpperCase() + key.slice(1)).replaceAll("_", " ");
	return text.replace(/\{(\w+)\}/g, (_, name) => params[name] ?? "");
}

function stored(does) {
	try {
		return does(localStorage);
	} catch {
		return null; // it may be forbidden
	}
}

/** "theme" system|light|dark, "time" relative|local|utc, "shortcuts" on|off, "session" on|off: worth asking for */
const settings = {
	get: (key, usual = "") => (known[key] ??= stored((storage) => storage.getItem(PREFIX + key)) ?? usual),
	set(key, value) {
		stored((storage) => storage.setItem(PREFIX + key, value));
		apply(key, value);
	},
};

function apply(key, value) {
	known[key] = value;
	if (key === "theme") setAttr(document.documentElement, "data-theme", value !== "system" && value);
	if (byId(key)) byId(key).value = value;
	view?.tick(live.now());
}

const absolute = (at, options) =>
	clock(at, { utc: settings.get("time") === "utc", zone: true, now: live.now(), ...options });
const moment = (at) => (/utc|local/.test(settings.get("time")) ? absolute(at, { seconds: false }) : null);

/** A control with `data-write` changes something on the server: while not `online()` a click on it goes nowhere. */
const app = {
	store, live, t, settings,
	announce() {}, // nothing to say before the first view
	toast: async (options) => (await import("./ui/toast.js")).toast(byId("toasts"), byId("notes"), t, options),
	now: live.now,
	online: () => live.state === "live" || live.state === "polling",
	/** Nothing is changed while what is seen may be out of date. */
	api: async (method, ...rest) => {
		if (method !== "GET" && live.lostAt) throw new Error(t("not_sent"));
		return api(method, ...rest);
	},
	clock: absolute,
	ago: (at) => moment(at) ?? ago(at, live.now()),
	until: (at, past) => moment(at) ?? until(at, live.now(), past),
	go: (hash) => { location.hash = hash; },
	query: () => new URLSearchParams(location.hash.split("?")[1]),
	setQuery(changes) {
		const query = app.query();
		for (const key in changes) changes[key] ? query.set(key, changes[key]) : query.delete(key);
		const [path] = location.hash.split("?");
		history.replaceState(null, "", `${path || "#/overview"}${query.size ? `?${query}` : ""}`);
	},
	actions: async () => (await app.more(), import("./actions.js")),
	/** The texts and styles of what is not in the first view. */
	more: () => (more ??= Promise.all([
		import("./strings.more.en.js").then(({ default: texts }) => Object.assign(strings, texts)),
		new Promise((done) => {
			const link = h("link", { rel: "stylesheet", href: new URL("../more.css", import.meta.url) });
			link.onload = link.onerror = done;
			document.head.append(link);
		}),
	])),
	/** There is a session. */
	enter() {
		settings.set("session", "on");
		live.start();
		route();
	},
};

/** The view and the id of the address. */
function target() {
	const [, name = "", id] = location.hash.match(/^#\/(\w+)(?:\/([^?]+))?/) ?? [];
	return [name === "accounts" && id ? "account" : VIEWS.includes(name) ? name : "overview", id];
}

/** Shows that view; without a session the login, and the address stays. */
async function route() {
	const [name, id] = target(), wanted = live.state === "signed-out" ? "login" : name, mine = (turn += 1);
	const root = h("section.view", VIEWS.includes(wanted) && h("h2", { tabindex: -1 }, t(wanted)));
	let next;
	try {
		const [{ default: mount }] =
			await Promise.all([import(`./views/${wanted}.js`), FIRST.includes(wanted) || app.more()]);
		if (mine !== turn) return;
		next = mount(root, app, id);
	} catch (error) {
		console.error(error);
		root.replaceChildren(h("h2", { tabindex: -1 }, t("view_failed")),
			h("button", { "data-act": "reload" }, t("reload")));
	}
	if (mine !== turn) return;
	view = { topics: [], patch() {}, tick() {}, ...next };
	byId("view").replaceChildren(root);
	document.body.dataset.view = wanted;
	const tab = wanted === "account" ? "accounts" : wanted;
	for (const link of document.querySelectorAll("nav a")) {
		setAttr(link, "aria-current", link.getAttribute("href") === `#/${tab}` && "page");
	}
	for (const dialog of document.querySelectorAll("dialog")) dialog.close();
	byId("more").hidePopover();
	live.want(["accounts", "stats", "flows", ...view.topics]);
	patch(store.all());
	if (shown) heading().focus();
	shown = true;
	scrollTo(0, 0);
}

const frame = header(app, byId);

function patch(dirty) {
	const { activeElement: focused, body } = document;
	view?.patch(dirty);
	// The row that had the focus may be gone.
	if (focused !== body && document.activeElement === body) heading()?.focus();
	frame.patch(heading()?.textContent ?? "");
}
store.watch(patch);

live.onstate(() => {
	if (live.state === "live") later ??= loadLater();
	if (live.state === "signed-out") settings.set("session", "off");
	if ((live.state === "signed-out") !== (document.body.dataset.view === "login")) route();
	frame.state();
});

function tick() {
	setTimeout(tick, 1000 - (live.now() % 1000));
	if (!document.hidden) view?.tick(live.now()), frame.tick();
}

/** What can wait, loaded while there is a server to load it from. */
async function loadLater() {
	app.more();
	import("./ui/toast.js");
	const { announcer, listen, watch } = await import("./later.js");
	app.announce = announcer(byId("announcer"));
	listen(app);
	watch(app);
}

async function signOut() {
	await api("POST", "api/auth/logout").catch(() => {}); // no server, nothing to sign out of
	live.leave();
}

act(document.body, {
	skip: (_, event) => (event.preventDefault(), byId("main").focus()),
	reload: () => location.reload(),
	"live-retry": live.retry,
	"sign-out": signOut,
});
addEventListener("click", (event) => {
	if (app.online() || !event.target.closest("[data-write]")) return;
	event.stopPropagation();
	event.preventDefault();
	app.toast({ text: t("not_sent"), kind: "error" });
}, true);
addEventListener("hashchange", route);
addEventListener("signed-out", live.leave);
addEventListener("storage", ({ key, newValue: value }) =>
	key?.startsWith(PREFIX) && apply(key.slice(PREFIX.length), value));
for (const key of ["theme", "time"]) {
	byId(key).value = settings.get(key, byId(key).value);
	byId(key).onchange = () => settings.set(key, byId(key).value);
}

tick();
import(`./views/${target()[0]}.js`).catch(() => {}); // while the server says whether there is a session
if (settings.get("session") !== "on") live.leave();
else api("GET", "api/auth/me").then(app.enter, ({ status }) => (status === 401 ? live.leave() : app.enter()));
