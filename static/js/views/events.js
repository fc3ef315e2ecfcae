// @ts-check
/** What has happened, newest first. */
import { act, h, keyed, setAttr, setText } from "../dom.js";
import { offer } from "../ui/export.js";

/** @import { App, LoggedEvent, Mount, TextKey } from "../types.js" */

/** A time without a connection. @typedef {{from: number, at: string}} Loss */
/** @typedef {{value: string, text: TextKey}} Option */

/** @type {Option[]} */
const LEVELS = [
	{ value: "info", text: "info" },
	{ value: "warning", text: "warning" },
	{ value: "error", text: "error" },
];
/** What the kinds of events begin with. @type {Option[]} */
const KINDS = [
	{ value: "account", text: "accounts" },
	{ value: "token", text: "tokens" },
	{ value: "session", text: "sessions" },
	{ value: "health", text: "health" },
	{ value: "admin", text: "admins" },
	{ value: "server", text: "server" },
];
const FIELDS = ["id", "at", "level", "kind", "text", "account_id", "token_id", "session_id"];

/** @type {Mount} */
export default function mount(root, app) {
	const { t } = app;
	const log = new Log(app);
	act(root, {
		follow(el) {
			log.pause(!log.paused);
			setText(el, t(log.paused ? "follow" : "pause"));
		},
		export: (el) => offer(app, el, "events", FIELDS, log.passing()),
	});
	root.append(
		h("div.toolbar", log.filters.els, h("button", { "data-act": "follow" }, t("pause")),
			h("label.row", log.voice, t("announce_events")), h("button", { "data-act": "export" }, t("export"))),
		h("div.log", { role: "log", "aria-live": "off", "aria-label": t("events") }, log.list), log.empty);

	return {
		topics: ["events"],
		tick() {
			const newest = app.live.losses.at(-1);
			if (newest && !log.rows.has(newest)) log.render();
		},
		patch(dirty) {
			const news = dirty.get("events");
			if (!news) return;
			log.announce(news);
			log.render();
		},
	};
}

class Log {
	/** @param {App} app */
	constructor(app) {
		this.app = app;
		this.items = app.store.items("events");
		/** @type {Map<LoggedEvent | Loss, {el: HTMLElement}>} */
		this.rows = new Map();
		/** The events of this moment, or of that when it was paused; newest first. @type {LoggedEvent[]} */
		this.shown = [];
		this.paused = false;
		this.filters = filtersOf(app, () => this.render());
		this.voice = h("input", { type: "checkbox", role: "switch" });
		this.list = h("ol.list");
		this.empty = h("p.note");
	}

	/** @param {boolean} paused */
	pause(paused) {
		this.paused = paused;
		this.render();
	}

	passing() {
		return this.shown.filter((event) => this.filters.pass(event));
	}

	render() {
		const { app, items } = this;
		const { t, store, live } = app;
		if (!this.paused) this.shown = [...items.values()].reverse();
		const found = [...this.passing(), ...live.losses].sort(newestFirst);
		keyed(this.list, found, this.rows, (entry) =>
			({ el: "from" in entry ? lossLine(app, entry) : eventLine(app, entry) }));
		const started = store.items("stats").get("health")?.started_at;
		setText(this.empty, items.size ? t("no_event") : t("no_events", { at: app.clock(started) }));
		setAttr(this.empty, "hidden", found.length > 0 || !store.ready("events"));
	}

	/** Has new events read aloud, if that is wanted; not those that come first. @param {Iterable<string>} ids */
	announce(ids) {
		if (!this.voice.checked || !this.shown.length) return;
		for (const id of ids) {
			const event = this.items.get(id);
			if (event && this.filters.pass(event)) this.app.announce(event.text);
		}
	}
}

/** @type {(a: {at: string}, b: {at: string}) => number} */
const newestFirst = (a, b) => {
	if (a.at === b.at) return 0;
	return a.at < b.at ? 1 : -1;
};

/**
 * The controls that filter, which are in the address as well; `changed` is called when one is used.
 * @param {App} app
 * @param {() => void} changed
 */
function filtersOf(app, changed) {
	const { t } = app;
	/** @type {<Control extends HTMLInputElement | HTMLSelectElement>(name: string, el: Control) => Control} */
	const filter = (name, el) => {
		el.value = app.query().get(name) ?? "";
		el.oninput = () => {
			app.setQuery({ [name]: el.value });
			changed();
		};
		return el;
	};
	/** @type {(name: "level" | "kind", options: Option[]) => HTMLSelectElement} */
	const select = (name, options) => filter(name, h("select", { "aria-label": t(name) },
		[{ value: "", text: name }, ...options].map(({ value, text }) => h("option", { value }, t(text)))));
	const label = t("accounts");
	const level = select("level", LEVELS);
	const kind = select("kind", KINDS);
	const account = filter("account", h("input", { type: "search", placeholder: label, "aria-label": label }));
	return {
		els: [level, kind, account],
		/** @param {LoggedEvent} event */
		pass: (event) => event.level.startsWith(level.value) && event.kind.startsWith(kind.value) &&
			(event.account_name ?? "").toLowerCase().includes(account.value.toLowerCase()),
	};
}

/**
 * @param {App} app
 * @param {Loss} loss
 */
function lossLine({ t, clock }, { from, at }) {
	return h("li.muted", t("loss", { from: clock(from, { zone: false }), to: clock(at, { zone: false }) }));
}

/**
 * @param {App} app
 * @param {LoggedEvent} event
 */
function eventLine({ t, clock }, { at, level, text, account_id: id, account_name: name, skipped: n }) {
	return h("li", { "data-kind": level },
		h("div.row", h("time.muted", clock(at)), h("b", t(level)), h("span", text),
			name && h("a", { href: `#/accounts/${id}` }, name)),
		n && h("p.muted", t("skipped", { n })));
}
