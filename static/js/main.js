// @ts-check
/** The page: boot and routes. Builds `app`, which every view is handed. */
import { api } from "./api.js";
import { act, byId, dismiss, h, refocus, setAttr } from "./dom.js";
import { ago, clock, day, ms, until } from "./format.js";
import { VIEWS, header } from "./header.js";
import { connect } from "./live.js";
import { createSettings } from "./settings.js";
import { createStore } from "./store.js";
import { addTexts, t } from "./texts.js";

/** Those that need neither the texts nor the styles that come later. */
const FIRST = ["login", "overview", "accounts"];
/** The views of one thing: what follows its list's name in the address. @type {Record<string, string>} */
const ONE_OF = { accounts: "account", requests: "request", tokens: "token" };
/** What the frame shows of any view, and the actions wait for. */
const FRAME_TOPICS = ["accounts", "stats", "flows"];
const SECOND_MS = 1000;
/** A view that takes longer to load is told by its heading. */
const SLOW_MS = 300;

/** @import { App, ClockOptions, Dirty, Mount, Time, View } from "./types.js" */

const store = createStore();
const live = connect(store);
const settings = createSettings((key, value) => {
	if (key === "theme") setAttr(document.documentElement, "data-theme", value !== "system" && value);
	const select = document.getElementById(key);
	if (select instanceof HTMLSelectElement) select.value = value;
	// Somebody has signed in again in another tab.
	if (key === "session" && value === "on" && live.state === "signed-out") app.enter();
	view?.tick(live.now());
});
/** @type {Required<View> | undefined} */
let view;
/** The number of the last call of `route`: one before that waits for its module shows nothing any more. */
let turn = 0;
let shown = false;
/** Whether the view of the address could not be loaded. */
let failed = false;
let slow = 0;
/** @type {Promise<unknown> | undefined} */
let more;
/** @type {Promise<void> | undefined} */
let later;

/** @type {(at: Time | number | null | undefined, options?: ClockOptions) => string} */
const absolute = (at, options) =>
	clock(at, { utc: settings.get("time") === "utc", zone: true, now: live.now(), ...options });

/** A time as settings want it, or null if that is relative. @param {Time | number | null} at */
const moment = (at) =>
	(["utc", "local"].includes(settings.get("time")) ? absolute(at, { seconds: false }) : null);

/** A control with `data-write` changes something on the server: while not `online()` a click on it goes nowhere.
 * @type {App} */
const app = {
	store,
	live,
	t,
	settings,
	announce() {}, // nothing to say before the first view
	async toast(options) {
		const { toast } = await import("./ui/toast.js");
		toast(byId("toasts"), byId("notes"), t, options);
	},
	now: live.now,
	online: () => live.state === "live" || live.state === "polling",
	/** Nothing is changed while what is seen may be out of date. */
	async api(method, ...rest) {
		if (method !== "GET" && live.lostAt) throw new Error(t("not_sent"));
		const data = await api(method, ...rest);
		if (data?.warning) app.toast({ text: data.warning, kind: "error" }); // done all the same
		return data;
	},
	clock: absolute,
	day: (at) => day(at, settings.get("time") === "utc"),
	ago: (at) => moment(at) ?? ago(at, live.now()),
	until: (at, past) => moment(at) ?? until(at, live.now(), past),
	due(at) {
		const time = moment(at);
		if (ms(at) <= live.now()) return t("any_moment");
		return t(time ? "at_time" : "in_span", { time: time ?? until(at, live.now()) });
	},
	go(hash) {
		location.hash = hash;
	},
	query: () => new URLSearchParams(location.hash.split("?")[1]),
	setQuery(changes) {
		const query = app.query();
		for (const [key, value] of Object.entries(changes)) {
			if (value) query.set(key, String(value));
			else query.delete(key);
		}
		const [path] = location.hash.split("?");
		history.replaceState(null, "", `${path || "#/overview"}${query.size ? `?${query}` : ""}`);
	},
	async actions() {
		await app.more();
		return import("./actions.js");
	},
	/** The texts and styles of what is not in the first view. */
	more() {
		more ??= Promise.all([import("./strings.more.en.js").then((module) => addTexts(module.default)), moreStyles()])
			.catch((error) => {
				more = undefined;
				throw error;
			});
		return more;
	},
	/** There is a session. */
	enter() {
		live.start();
		settings.set("session", "on");
		route();
	},
};

/** Resolves as well if they cannot be had: the page works without. */
function moreStyles() {
	return new Promise((resolve) => {
		const link = h("link", { rel: "stylesheet", href: new URL("../more.css", import.meta.url) });
		link.onload = resolve;
		link.onerror = resolve;
		document.head.append(link);
	});
}

const frame = header(app);
const heading = () => byId("view").querySelector("h2");

/** The view of the address, and the id in it. */
function target() {
	const [, name = "", id] = location.hash.match(/^#\/(\w+)(?:\/([^?]+))?/) ?? [];
	if (id && Object.hasOwn(ONE_OF, name)) return { name: ONE_OF[name], id };
	const known = VIEWS.find((each) => each === name);
	return { name: known ?? "overview", id };
}

/** Shows the view of the address; without a session the login, and the address stays. */
async function route() {
	turn += 1;
	const mine = turn;
	const { name, id } = target();
	const wanted = live.state === "signed-out" ? "login" : name;
	failed = false;
	announceView(wanted);
	const title = VIEWS.find((each) => each === wanted);
	const root = h("section.view", title && h("h2", { tabindex: -1 }, t(title)));
	/** @type {View | void} */
	let next = undefined;
	try {
		const mount = await load(wanted);
		if (mine !== turn) return;
		next = mount(root, app, id);
	} catch (error) {
		console.error(error);
		failed = mine === turn;
		const reload = h("button", { "data-act": "reload" }, t("reload"));
		root.replaceChildren(h("h2", { tabindex: -1 }, t("view_failed")), reload);
	}
	if (mine === turn) show(wanted, root, next ?? {});
}

/** Marks the tab of the view that is to come; its heading stands there if it takes long. @param {string} name */
function announceView(name) {
	const tab = VIEWS.find((list) => list === name || ONE_OF[list] === name);
	for (const link of document.querySelectorAll("nav a")) {
		setAttr(link, "aria-current", link.getAttribute("href") === `#/${tab}` && "page");
	}
	clearTimeout(slow);
	if (!tab || !shown) return; // the page itself has what stands there before the first view
	slow = setTimeout(() => {
		view = undefined;
		byId("view").replaceChildren(h("section.view", h("h2", { tabindex: -1 }, t(tab)), h("div.bone")));
		frame.patch(t(tab));
	}, SLOW_MS);
}

/** @param {string} name @returns {Promise<Mount>} */
async function load(name) {
	const [module] = await Promise.all([import(`./views/${name}.js`), FIRST.includes(name) || app.more()]);
	return module.default;
}

/**
 * @param {string} name
 * @param {HTMLElement} root
 * @param {View} next
 */
function show(name, root, next) {
	clearTimeout(slow);
	view = { topics: [], patch() {}, tick() {}, ...next };
	byId("view").replaceChildren(root);
	document.body.dataset.view = name;
	document.querySelectorAll("dialog").forEach(dismiss);
	byId("more").hidePopover();
	live.want([...FRAME_TOPICS, ...view.topics]);
	patch(store.all());
	if (shown) heading()?.focus();
	shown = true;
	scrollTo(0, 0);
}

/** @param {Dirty} dirty */
function patch(dirty) {
	const focused = document.activeElement;
	view?.patch(dirty);
	if (focused !== document.body) refocus(); // the row that had it may be gone
	frame.patch(heading()?.textContent ?? "");
}

function connectionChanged() {
	const signedOut = live.state === "signed-out";
	if (live.state === "live") {
		later ??= loadLater();
		later.then(loadViews).catch(() => {}); // what fails, again with the next connection
	}
	if (signedOut) settings.set("session", "off");
	if (signedOut !== (document.body.dataset.view === "login") || (failed && app.online())) route();
	frame.state();
}

/** Every second, when the server's clock turns to the next. */
function tick() {
	setTimeout(tick, SECOND_MS - (live.now() % SECOND_MS));
	if (document.hidden) return;
	view?.tick(live.now());
	frame.tick();
}

/** What can wait, loaded while there is a server to load it from; what fails, again with the next connection. */
async function loadLater() {
	const all = Promise.all([import("./later.js"), app.more(), import("./ui/toast.js")]);
	new Image().src = new URL("../favicon-unknown.svg", import.meta.url).href; // shown when nothing can be loaded
	try {
		const [{ announcer, listen, watch }] = await all;
		app.announce = announcer(byId("announcer"));
		listen(app);
		watch(app);
	} catch {
		later = undefined;
	}
}

/** All views, one after the other: each is there at once then, also while there is no connection. */
async function loadViews() {
	for (const name of [...VIEWS, ...Object.values(ONE_OF)]) await import(`./views/${name}.js`);
}

async function signOut() {
	try {
		await api("POST", "api/auth/logout");
	} catch { /* no server, nothing to sign out of */ }
	live.leave();
}

/** @param {MouseEvent} event */
function refuseOffline(event) {
	if (app.online() || !/** @type {Element} */ (event.target).closest("[data-write]")) return;
	event.stopPropagation();
	event.preventDefault();
	app.toast({ text: t("not_sent"), kind: "error" });
}

function listen() {
	store.watch(patch);
	live.onstate(connectionChanged);
	act(document.body, {
		skip(_, event) {
			event.preventDefault();
			byId("main").focus();
		},
		reload: () => location.reload(),
		"live-retry": live.retry,
		"sign-out": signOut,
	});
	addEventListener("click", refuseOffline, true);
	addEventListener("hashchange", route);
	addEventListener("signed-out", live.leave);
	for (const key of ["theme", "time"]) {
		const select = /** @type {HTMLSelectElement} */ (byId(key));
		select.value = settings.get(key, select.value);
		select.onchange = () => settings.set(key, select.value);
	}
}

/** Shows the view if there is a session, and the login if not. */
async function boot() {
	import(`./views/${target().name}.js`).catch(() => {}); // while the server says whether there is a session
	if (settings.get("session") !== "on") {
		live.leave();
		return;
	}
	try {
		await api("GET", "api/auth/me");
		app.enter();
	} catch (error) {
		if (/** @type {import("./api.js").Failure} */ (error).status === 401) live.leave();
		else app.enter();
	}
}

listen();
tick();
boot();
