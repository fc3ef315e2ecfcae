// @ts-check
/** A live table over a topic of the store: search, chips, sort, pages.
 *
 * A row is made once, then patched. The order is calm: it changes every 5 s at most, and under the pointer or the
 * focus only when asked to. The style sheet has the widths: `.<topic>{--w-<key>:…}`. */
import { act, h, keyed } from "../dom.js";
import { calm, direction, sorted } from "./order.js";
import { build, makeRow, rowClicks } from "./rows.js";
import { Frame, columnsOf } from "./table_frame.js";

const PAGE = 100;
const CALM_MS = 5000;
const BONES = 8;
const ROW_KEYS = ["ArrowUp", "ArrowDown", "Enter", "j", "k", "x", "."];

/** @import { App, Dirty, TextKey } from "../types.js" */

/**
 * `text` of an item, or a `cell` that is filled once and gives what patches it.
 * @template Item
 * @typedef {object} Column
 * @property {TextKey} key
 * @property {string} [cls]
 * @property {(item: Item) => string} [text]
 * @property {(td: HTMLElement) => (item: Item) => void} [cell]
 * @property {(item: Item) => any} [sort]
 * @property {(item: Item) => any} [filled] what it shows of the item, if neither `sort` nor `text` says it
 * @property {(item: Item) => string | null} [title]
 */

/**
 * @template Item
 * @typedef {object} Spec
 * @property {"accounts" | "sessions" | "tokens"} topic
 * @property {string} noun
 * @property {Column<Item>[]} columns
 * @property {(a: Item, b: Item) => number} order
 * @property {string[]} fields the columns of an export
 * @property {(item: Item) => string} search what is searched
 * @property {Record<string, string>} [chips] texts by status
 * @property {(item: Item) => TextKey | false} primary the action that stands in the row
 * @property {(item: Item) => TextKey[]} menu
 * @property {TextKey[]} [bulk]
 * @property {{text: string, act: TextKey, makes?: boolean}} empty what to say, and do, without items
 * @property {(name: string, ids: string[]) => unknown} act called with the key of the action's label
 */

/** @typedef {{el: HTMLElement, box: HTMLInputElement, more: HTMLButtonElement, cells: HTMLElement[],
 *	patch: () => void}} Row */
/** @typedef {Map<string, Row>} Rows */

/** @template {{id: string, name?: string, status?: string | null}} Item */
class Table {
	/**
	 * @param {App} app
	 * @param {Spec<Item>} spec
	 */
	constructor(app, spec) {
		this.app = app;
		this.spec = spec;
		/** @type {Map<string, Item>} */
		this.items = /** @type {Map<string, any>} */ (app.store.items(spec.topic));
		/** @type {Rows} */
		this.rows = new Map();
		/** What the address asks for. */
		this.view = this.asked();
		/** The ids of all rows that pass the filter, of which a page is shown. @type {string[]} */
		this.order = [];
		/** Where each item stood when the rows were arranged. @type {Map<string, string>} */
		this.seen = new Map();
		this.arrangedAt = 0;
		/** The id of the row that is to get the focus. */
		this.awaited = "";
		/**
		 * Loaded when somebody begins to do something.
		 * @type {ReturnType<typeof import("./acting.js").acting> | null}
		 */
		this.acting = null;
		this.parts = build(app, spec, this.view.q);
		this.frame = new Frame(app, spec, this.parts);
		this.columns = columnsOf(this.parts.grid, this.parts.heads, spec);
		this.listen();
	}

	asked() {
		const query = this.app.query();
		const text = (/** @type {string} */ key) => query.get(key) ?? "";
		return { q: text("q"), sort: text("sort"), status: text("status"), page: Math.max(1, Math.floor(Number(text("p"))) || 1) };
	}

	/** @param {Item} item */
	passes(item) {
		const { q, status } = this.view;
		if (status && item.status !== status) return false;
		return !q || this.spec.search(item).toLowerCase().includes(q.toLowerCase());
	}

	/** Changes with where an item is shown and counted. @param {Item | undefined} item */
	place(item) {
		return item ? `${item.status} ${this.passes(item)}` : "";
	}

	/** The ids that pass the filter, in the order that is asked for. */
	wanted() {
		const { key, descending } = direction(this.view.sort);
		const by = this.spec.columns.find((column) => column.key === key)?.sort;
		const passing = [...this.items.values()].filter((item) => this.passes(item));
		return sorted(passing, by, descending, this.spec.order).map(({ id }) => id);
	}

	/** Applies the filter; the order too, if `anew` or if that disturbs nobody. */
	arrange(anew = !this.order.length) {
		const wanted = this.wanted();
		const now = performance.now();
		const held = this.parts.grid.matches(":hover,:focus-within") || Boolean(document.querySelector("[role=menu]"));
		if (anew || (!held && now - this.arrangedAt >= CALM_MS)) {
			this.order = wanted;
			this.arrangedAt = now;
		} else {
			this.order = calm(this.order, wanted);
		}
		this.parts.offer.hidden = !held || this.order.every((id, at) => id === wanted[at]);
		this.seen = new Map([...this.items].map(([id, item]) => [id, this.place(item)]));
		this.draw();
	}

	draw() {
		const { body } = this.parts;
		const ready = this.app.store.ready(this.spec.topic);
		const pages = Math.ceil(this.order.length / PAGE) || 1;
		if (ready) this.view.page = Math.min(this.view.page, pages); // before, nobody knows how many there are
		const from = (this.view.page - 1) * PAGE;
		const ids = this.order.slice(from, from + PAGE);
		if (!this.rows.size) body.replaceChildren(...Array.from({ length: ready ? 0 : BONES }, () => h("tr.bone")));
		this.columns.patch(this.items, this.rows.values());
		keyed(body, ids, this.rows, (id) => this.makeRow(id));
		if (!body.querySelector("[tabindex='0']")) this.rows.get(ids[0])?.el.setAttribute("tabindex", "0");
		this.frame.patch([...this.items.values()], this.view, { pages, from, count: ids.length, all: this.order.length });
		this.acting?.pick();
		const awaited = this.rows.get(this.awaited);
		if (!awaited) return;
		awaited.el.focus();
		this.awaited = "";
	}

	/** @param {string} id */
	makeRow(id) {
		const row = makeRow(this.app, this.spec, id);
		this.columns.add(row);
		return row;
	}

	/** @param {Record<string, string | number>} change */
	show(change) {
		this.app.setQuery(change);
		this.view = this.asked();
		this.arrange(true);
	}

	/** Ends the selection: nothing unseen is ever acted on. @param {Record<string, string>} change */
	filter(change) {
		this.acting?.clear();
		this.show({ p: "", ...change });
	}

	clearFilters() {
		this.parts.search.value = "";
		this.filter({ q: "", status: "" });
		this.parts.search.focus();
	}

	/** @param {number} by */
	turn(by) {
		this.show({ p: this.view.page + by });
		this.parts.grid.scrollIntoView();
	}

	/**
	 * Calls `does` with what acts on rows, at once if it is there: a key does not wait.
	 * @param {(acting: NonNullable<Table<any>["acting"]>) => void} does
	 */
	async then(does) {
		const { acting } = this.acting ? { acting: null } : await import("./acting.js");
		this.acting ??= acting?.(this.app, this.spec, { ...this.parts, rows: this.rows }) ?? null;
		if (this.acting) does(this.acting);
	}

	/** @param {HTMLButtonElement} source */
	async export(source) {
		const { offer } = await import("./export.js");
		await offer(this.app, source, this.spec.topic, this.spec.fields, this.order.map((id) => this.items.get(id)));
	}

	listen() {
		const { el, search, order, grid, body } = this.parts;
		const { empty } = this.spec;
		act(el, {
			chip: ({ value }) => this.filter({ status: value }),
			sort: ({ value }) => this.show({ sort: this.view.sort === value ? `-${value}` : value }),
			new_order: () => this.arrange(true),
			previous: () => this.turn(-1),
			next: () => this.turn(1),
			clear_filters: () => this.clearFilters(),
			retry: () => this.app.live.retry(),
			run: (source) => this.then((acting) => acting.run(source)),
			menu: (source) => this.then((acting) => acting.menu(source)),
			export: (source) => this.export(source),
			details: unfold,
			[empty.act]: () => this.spec.act(empty.act, []),
		});
		search.oninput = () => this.filter({ q: search.value.trim() });
		order.oninput = () => this.show({ sort: order.value });
		grid.onchange = ({ target }) => {
			const box = /** @type {HTMLInputElement} */ (target);
			const on = box.checked;
			this.then((acting) => acting.check(box, on));
		};
		body.onkeydown = (event) => this.pressed(event);
		rowClicks(body, ({ dataset: { id } }) => id && this.spec.act("open", [id]));
	}

	/** @param {KeyboardEvent} event */
	pressed(event) {
		const { key, ctrlKey, metaKey, altKey } = event;
		const target = /** @type {HTMLElement} */ (event.target);
		const letter = key.length === 1;
		if (!ROW_KEYS.includes(key) || ctrlKey || metaKey || altKey) return;
		if (letter && this.app.settings.get("shortcuts") === "off") return;
		if (key === "Enter" && !target.dataset.id) return; // it presses a button of the row
		event.preventDefault();
		this.then((acting) => acting.key(key, target));
	}

	/** @param {Dirty} dirty */
	patch(dirty) {
		let moved = !this.order.length;
		for (const id of dirty.get(this.spec.topic) ?? []) {
			if (this.place(this.items.get(id)) !== (this.seen.get(id) ?? "")) moved = true;
			this.rows.get(id)?.patch();
		}
		this.columns.patch(this.items, this.rows.values());
		if (moved) this.arrange();
	}

	tick() {
		for (const row of this.rows.values()) row.patch();
		if (performance.now() - this.arrangedAt > CALM_MS) this.arrange();
	}

	/** @param {string} id */
	focusRow(id) {
		this.awaited = id;
		const at = this.order.indexOf(id);
		if (at >= 0) this.view.page = Math.floor(at / PAGE) + 1;
		this.draw();
	}
}

/** Shows all of a row, where one is a line; or the line again. @param {HTMLButtonElement} button */
function unfold(button) {
	button.ariaExpanded = String(button.closest("tr")?.classList.toggle("unfolded"));
}

/**
 * @template {{id: string, name?: string, status?: string | null}} Item
 * @param {App} app
 * @param {Spec<Item>} spec
 */
export function table(app, spec) {
	const grid = new Table(app, spec);
	return {
		el: grid.parts.el,
		patch: (/** @type {Dirty} */ dirty) => grid.patch(dirty),
		tick: () => grid.tick(),
		/** Moves the focus to a row, now or when it comes. */
		focusRow: (/** @type {string} */ id) => grid.focusRow(id),
	};
}

