// @ts-check
/** What has happened and who did it, newest first: what the feed tells, then older pages of the audit log. */
import { changes } from "../diff.js";
import { act, h, keyed, setAttr, setText } from "../dom.js";
import { sentence } from "../format.js";
import { offer } from "../ui/export.js";
import { folded } from "../ui/menu.js";

/** @import { App, LoggedEvent, Mount, TextKey } from "../types.js" */

/** A time without a connection. @typedef {{from: number, at: string}} Loss */
/** A day's head is its name. @typedef {LoggedEvent | Loss | string} Entry */
/** @typedef {{value: string, text: TextKey}} Option */
/** @typedef {"level" | "kind" | "actor"} Choice */

/** What shows one thing, by its kind. @type {Record<string, string>} */
const PAGES = { account: "accounts", token: "tokens" };
/** @type {Record<Choice, Option[]>} */
const CHOICES = {
	level: [
		{ value: "info", text: "info" },
		{ value: "warning", text: "warning" },
		{ value: "error", text: "error" },
	],
	/** What the kinds of events begin with. */
	kind: [
		{ value: "account", text: "accounts" },
		{ value: "token", text: "tokens" },
		{ value: "session", text: "sessions" },
		{ value: "health", text: "health" },
		{ value: "admin", text: "admins" },
		{ value: "storage", text: "storage" },
		{ value: "audit", text: "audit_log" },
		{ value: "server", text: "server" },
	],
	actor: [
		{ value: "admin", text: "by_admins" },
		{ value: "key", text: "by_keys" },
		{ value: "system", text: "by_itself" },
	],
};
const FIELDS = ["id", "at", "level", "kind", "text", "actor.kind", "actor.id", "actor.name", "actor.address",
	"subject.kind", "subject.id", "subject.name"];
/** @type {TextKey[]} */
const COLUMNS = ["time", "event", "about", "by"];
const PAGE = 200;
/** Older events that are shown at most: the export and the API have all. */
const MOST_OLDER = 5000;

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
		older: () => log.load(),
	});
	root.append(
		h("div.toolbar", log.filters.els, h("button", { "data-act": "follow" }, t("pause")),
			h("button", { "data-act": "export" }, t("export"))),
		h("div", { role: "log", "aria-live": "off", "aria-label": t("events") }, log.grid), log.empty, log.pager);

	return {
		topics: ["events"],
		tick() {
			const newest = app.live.losses.at(-1);
			const mode = app.settings.get("time");
			if (mode !== log.mode) log.redraw(mode);
			else if (newest && !log.rows.has(newest)) log.render();
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
		const { t } = app;
		this.app = app;
		this.mode = app.settings.get("time");
		this.items = app.store.items("events");
		/** @type {Map<Entry, {el: HTMLElement}>} */
		this.rows = new Map();
		/** The events of this moment, or of that when it was paused; newest first. @type {LoggedEvent[]} */
		this.shown = [];
		this.paused = false;
		/** From the audit log, as far as the filter asks for them; newest first. @type {LoggedEvent[]} */
		this.older = [];
		/** Before which id to go on; null if there are no more. @type {number | null | undefined} */
		this.cursor = undefined;
		this.voice = h("input", { type: "checkbox", role: "switch" });
		this.filters = filtersOf(app, this.voice, () => this.render(), () => this.forget());
		this.list = h("tbody", { role: "rowgroup" });
		const heads = COLUMNS.map((key) => h("th", { role: "columnheader", scope: "col" }, t(key)));
		this.grid = h("table.grid.events", { role: "table" }, h("caption.sr", t("events")),
			h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, heads)), this.list);
		this.empty = h("p.note");
		this.more = h("button", { "data-act": "older" }, t("load_older"));
		this.pager = h("div.pager", this.more);
	}

	/** Older events are those of one filter: with another they are asked for anew. */
	forget() {
		this.older = [];
		this.cursor = undefined;
	}

	/** @param {boolean} paused */
	pause(paused) {
		this.paused = paused;
		this.render();
	}

	/** Times are text: in another mode all of it is another. @param {string} mode */
	redraw(mode) {
		this.mode = mode;
		this.rows.clear();
		this.list.replaceChildren();
		this.render();
	}

	passing() {
		return [...this.shown, ...this.older].filter((event) => this.filters.pass(event));
	}

	/** Shows a page of older events, the first that has any. */
	async load() {
		const { app, filters, older } = this;
		setAttr(this.more, "aria-busy", "true");
		try {
			const [first] = this.items.values();
			const before = this.cursor ?? first?.id ?? "";
			const page = await app.api("GET", `api/admin/events?limit=${PAGE}&before=${before}&${filters.asked()}`);
			if (older !== this.older) return;
			older.push(...page.events);
			this.cursor = page.next_before;
			this.render();
			if (!page.events.length && this.cursor) await this.load();
		} catch (error) {
			app.toast({ text: /** @type {Error} */ (error).message, kind: "error" });
		} finally {
			setAttr(this.more, "aria-busy", null);
		}
	}

	render() {
		const { app, items } = this;
		const { t, store, live } = app;
		if (!this.paused) this.shown = [...items.values()].reverse();
		const found = [...this.passing(), ...live.losses].sort(newestFirst);
		keyed(this.list, withDays(app, found), this.rows, (entry) => ({ el: rowOf(app, entry) }));
		const started = store.items("stats").get("health")?.started_at;
		setText(this.empty, items.size ? t("no_event") : t("no_events", { at: app.clock(started) }));
		setAttr(this.grid, "hidden", !found.length);
		setAttr(this.empty, "hidden", found.length > 0 || !store.ready("events"));
		const [oldest] = items.values();
		const all = this.cursor === null || !oldest || (oldest.id === 1 && !this.older.length);
		setAttr(this.pager, "hidden", all || this.older.length >= MOST_OLDER);
	}

	/** Has new events read aloud, if that is wanted; not those that come first. @param {Iterable<string>} ids */
	announce(ids) {
		if (!this.voice.checked || !this.shown.length) return;
		for (const id of ids) {
			const event = this.items.get(id);
			if (event && this.filters.pass(event)) this.app.announce(sentence(event, this.app.clock));
		}
	}
}

/** @type {(a: {at: string}, b: {at: string}) => number} */
const newestFirst = (a, b) => {
	if (a.at === b.at) return 0;
	return a.at < b.at ? 1 : -1;
};

/**
 * With the head of each day before its entries.
 * @param {App} app
 * @param {(LoggedEvent | Loss)[]} entries
 */
function* withDays(app, entries) {
	let last = "";
	for (const entry of entries) {
		const day = app.day(entry.at);
		if (day !== last) yield day;
		last = day;
		yield entry;
	}
}

/**
 * The controls that filter, which are in the address as well; `changed` is called when one is used, and before it
 * `asked` if the server is to be asked for something else. `voice`, which has events read aloud, stands with them.
 * @param {App} app
 * @param {HTMLInputElement} voice
 * @param {() => void} changed
 * @param {() => void} asked
 */
function filtersOf(app, voice, changed, asked) {
	const { t } = app;
	/** @type {<Control extends HTMLInputElement | HTMLSelectElement>(name: string, el: Control) => Control} */
	const filter = (name, el) => {
		el.value = app.query().get(name) ?? "";
		el.oninput = () => {
			app.setQuery({ [name]: el.value });
			mark();
			if (name === "kind" || name === "actor") asked();
			changed();
		};
		return el;
	};
	/** @type {(name: Choice) => HTMLSelectElement} */
	const select = (name) => filter(name, h("select", { "aria-label": t(name) },
		[{ value: "", text: name }, ...CHOICES[name]].map(({ value, text }) => h("option", { value }, t(text)))));
	const label = t("search_in", { what: t("events") });
	const search = filter("q", h("input", { type: "search", placeholder: t("search"), "aria-label": label }));
	const level = select("level");
	const kind = select("kind");
	const actor = select("actor");
	const fold = folded(t, level, kind, actor, h("label.row", voice, t("announce_events")));
	const mark = () => fold.mark([level, kind, actor].some(({ value }) => value));
	mark();
	return {
		els: [search, fold.els],
		/** What the server is asked for. */
		asked: () => String(new URLSearchParams({ kind: kind.value, actor: actor.value })),
		/** @param {LoggedEvent} event */
		pass: (event) => event.level.startsWith(level.value) && event.kind.startsWith(kind.value) &&
			event.actor.kind.startsWith(actor.value) && words(event, app).includes(search.value.trim().toLowerCase()),
	};
}

/** What is searched of an event. @param {LoggedEvent} event @param {App} app */
const words = ({ kind, text, actor, subject, before, after }, app) =>
	[kind, text, actor.name, actor.id, actor.address, subject?.name, subject?.id, changes(app, before, after, true)]
		.join(" ").toLowerCase();

/**
 * @param {App} app
 * @param {Entry} entry
 */
function rowOf(app, entry) {
	if (typeof entry === "string") {
		const head = h("th", { role: "rowheader", scope: "rowgroup", colspan: COLUMNS.length }, h("h3", entry));
		return h("tr.day", { role: "row" }, head);
	}
	return "from" in entry ? lossRow(app, entry) : eventRow(app, entry);
}

/**
 * @param {App} app
 * @param {Loss} loss
 */
function lossRow({ t, clock }, { from, at }) {
	const text = t("loss", { from: clock(from, { zone: false }), to: clock(at, { zone: false }) });
	return h("tr.day", { role: "row" }, h("td.muted", { role: "cell", colspan: COLUMNS.length }, text));
}

/**
 * @param {App} app
 * @param {LoggedEvent} event
 */
function eventRow(app, event) {
	const { t, clock } = app;
	const { at, level, subject, actor, skipped: n } = event;
	const change = changes(app, event.before, event.after, event.kind === "account.rekeyed");
	/** @type {(name: TextKey, ...content: import("../dom.js").Child[]) => HTMLElement} */
	const cell = (name, ...content) => h("td", { role: "cell", class: `c-${name}`, "data-label": t(name) }, content);
	const name = subject?.name ?? subject?.id;
	const page = subject && PAGES[subject.kind];
	return h("tr", { role: "row", "data-kind": level },
		h("th", { role: "rowheader", scope: "row" }, h("time", { datetime: at }, clock(at, { zone: false, now: 0 }))),
		cell("event", level !== "info" && h("b", `${t(level)} `), h("span", sentence(event, clock)),
			change && h("p.muted", change), n && h("p.muted", t("skipped", { n }))),
		cell("about", page ? h("a", { href: `#/${page}/${subject?.id}` }, name) : name),
		cell("by", actor.kind === "system" ? h("span.muted", t("by_itself")) : (actor.name ?? actor.id),
			actor.address && h("p.muted", actor.address)));
}
