// @ts-check
/** What stands around the rows of a table: its heads and columns, chips and pages, and why there are no rows. */
import { h, setAttr, setText } from "../dom.js";
import { direction } from "./order.js";
import { WRITES, button } from "./rows.js";

/** @import { App } from "../types.js" */
/** @import { Column, Row, Spec } from "./table.js" */

const NOTHING = [undefined, null, "", "–"];

/** What the address asks for. @typedef {{q: string, sort: string, status: string, page: number}} View */
/** The rows on the page that is shown: `count`, from the one at `from`, of `all`. @typedef
 * {{pages: number, from: number, count: number, all: number}} Page */

/** @template {{status?: string | null}} Item */
export class Frame {
	/**
	 * @param {App} app
	 * @param {Spec<Item>} spec
	 * @param {ReturnType<typeof import("./rows.js").build>} parts
	 */
	constructor(app, spec, parts) {
		this.app = app;
		this.spec = spec;
		this.parts = parts;
	}

	/**
	 * @param {Item[]} items all of them
	 * @param {View} view
	 * @param {Page} page
	 */
	patch(items, view, page) {
		this.drawPager(page, view.page);
		this.drawHeads(view);
		this.drawChips(items, view.status);
		const ready = this.app.store.ready(this.spec.topic);
		const { note } = this.parts;
		note.hidden = ready ? page.all > 0 : !this.app.live.lostAt;
		if (!note.hidden) this.explain(this.reason(ready, items.length > 0, view));
	}

	/** @param {Page} page @param {number} at the number of the page */
	drawPager({ pages, from, count, all }, at) {
		const { range, pager, previous, next } = this.parts;
		setText(range, this.app.t("range", { from: from + 1, to: from + count, n: all }));
		pager.hidden = pages < 2;
		previous.disabled = at === 1;
		next.disabled = at === pages;
	}

	/** @param {View} view */
	drawHeads({ sort, status }) {
		const { key, descending } = direction(sort);
		this.parts.order.value = sort;
		this.parts.fold.mark(Boolean(sort || status));
		this.parts.heads.forEach((th, at) => {
			const way = descending ? "descending" : "ascending";
			setAttr(th, "aria-sort", this.spec.columns[at].key === key && way);
		});
	}

	/** @param {Item[]} items @param {string} chosen */
	drawChips(items, chosen) {
		for (const chip of this.parts.options) {
			const n = items.filter(({ status }) => !chip.value || status === chip.value).length;
			setText(chip.lastChild, String(n));
			setAttr(chip, "aria-pressed", String(chip.value === chosen));
		}
	}

	/** Says why there are no rows. @param {Spec<Item>["empty"]} reason */
	explain({ text, act: name, makes }) {
		const { note } = this.parts;
		if (note.firstChild?.textContent === text) return;
		note.replaceChildren(h("p", { role: "status" }, text), button(name, makes ? WRITES : {}, this.app.t(name)));
	}

	/**
	 * @param {boolean} ready
	 * @param {boolean} any whether there are items
	 * @param {View} view
	 * @returns {Spec<Item>["empty"]}
	 */
	reason(ready, any, { q, status }) {
		const { app: { t }, spec: { noun, chips, empty } } = this;
		if (!ready) return { text: t("not_loaded"), act: "retry" };
		if (!any) return empty;
		const label = chips && Object.hasOwn(chips, status) ? chips[status] : status;
		const filters = [q && `'${q}'`, status && `${t("status")} ${label}`].filter(Boolean);
		return { text: t("no_match", { noun, filters: filters.join(t("and")) }), act: "clear_filters" };
	}
}

/**
 * @param {Column<any>} column
 * @param {any} item
 */
function isFilled({ filled, text, sort }, item) {
	const value = filled ?? text ?? sort;
	return !value || !NOTHING.includes(value(item));
}

/**
 * Gives what hides the columns that are empty for all items. The style sheet has the width of each, `--w-<key>`, if it stands in a row's first
 * line.
 * @param {HTMLElement} grid
 * @param {HTMLElement[]} heads
 * @param {Spec<any>} spec
 */
export function columnsOf(grid, heads, { columns, bulk }) {
	/** For each column whether it is empty. @type {boolean[]} */
	let empty = [];

	/** @param {HTMLElement[]} cells of a row */
	const apply = (cells) => cells.forEach((cell, at) => setAttr(cell, "hidden", empty[at]));

	return {
		/** To be called for a new row. @param {Row} row */
		add: ({ cells }) => apply(cells),
		/**
		 * @param {Map<string, any>} items
		 * @param {Iterable<Row>} rows
		 */
		patch(items, rows) {
			const all = [...items.values()];
			const now = columns.map((column) => all.length > 0 && !all.some((item) => isFilled(column, item)));
			if (empty.length && now.every((is, at) => is === empty[at])) return;
			empty = now;
			apply(heads);
			for (const { cells } of rows) apply(cells);
			const keys = [bulk && "pick", ...columns.map(({ key }, at) => !empty[at] && key), "acts", "fold"];
			grid.style.setProperty("--cols", keys.filter(Boolean).map((key) => `var(--w-${key},)`).join(" "));
		},
	};
}
