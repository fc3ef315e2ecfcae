// @ts-check
/** What a table is made of: what stands still, its rows, and what opens them: a click, and keys. */
import { focus, h, setAttr, setText } from "../dom.js";
import { folded } from "./menu.js";

/** Of a control that changes something on the server, see `main.js`. */
export const WRITES = { "data-write": true };
const STEPS = new Map([["ArrowDown", 1], ["j", 1], ["ArrowUp", -1], ["k", -1]]);

/** @import { Child } from "../dom.js" */
/** @import { App, Translate } from "../types.js" */
/** @import { Column, Row, Spec } from "./table.js" */

/**
 * @param {keyof HTMLElementTagNameMap} tag
 * @param {Record<string, unknown>} attributes
 * @param {{key: string, cls?: string}} column
 * @param {Child[]} content
 */
const cell = (tag, attributes, { key, cls = "" }, ...content) =>
	h(tag, { ...attributes, class: `c-${key} ${cls}` }, content);
/** @type {(column: {key: string, cls?: string}, content: Child) => HTMLElement} */
const head = (column, content) => cell("th", { role: "columnheader", scope: "col" }, column, content);
/** @type {(column: {key: string, cls?: string}, ...content: Child[]) => HTMLElement} */
const data = (column, ...content) => cell("td", { role: "cell" }, column, ...content);
/** @param {string} [label] */
const tickbox = (label) => h("input", { type: "checkbox", "aria-label": label });

/**
 * A button that calls the act `name`.
 * @param {string} name
 * @param {Record<string, unknown>} attributes
 * @param {Child} label
 */
export const button = (name, attributes, label) => h("button", { "data-act": name, ...attributes }, label);

/**
 * What stands still: all but the rows.
 * @param {App} app
 * @param {Spec<any>} spec
 * @param {string} query what is searched
 */
export function build({ t }, { topic, columns, chips, empty, bulk }, query) {
	const search = h("input", { type: "search", value: query, placeholder: t("search"),
		"aria-label": t("search_in", { what: t(topic) }) });
	const options = Object.entries({ "": t("all"), ...chips }).map(([value, label]) =>
		button("chip", { value }, [label, " ", h("small")]));
	const order = orderOf(t, columns);
	const fold = folded(t, chips && h("div.chips", { role: "group", "aria-label": t("status") }, options), order,
		button("export", {}, t("export")));
	const toolbar = h("div.toolbar", search, fold.els,
		empty.makes && button(empty.act, { class: "primary", ...WRITES }, t(empty.act)));

	const all = tickbox(t("select_page"));
	const body = h("tbody", { role: "rowgroup" });
	const heads = columns.map(({ key, cls, sort }) =>
		head({ key, cls }, sort ? button("sort", { value: key }, t(key)) : t(key)));
	const top = h("tr", { role: "row" }, bulk && head({ key: "pick" }, all), heads,
		head({ key: "acts", cls: "sr" }, t("actions")));
	/** @type {HTMLElement} */
	const grid = h(`table.grid.${topic}`, { role: "table" }, h("caption.sr", t(topic)),
		h("thead", { role: "rowgroup" }, top), body);

	const range = h("span");
	const previous = button("previous", {}, t("previous"));
	const next = button("next", {}, t("next"));
	const pager = h("nav.pager", { "aria-label": t("pages") }, previous, range, next);

	const offer = button("new_order", { class: "offer", hidden: true }, t("new_order"));
	const note = h("div.note");
	const el = h("div", toolbar, offer, grid, note, pager);
	return { el, search, options, order, fold, offer, grid, all, heads, body, note, pager, range, previous, next };
}

/**
 * Chooses the order, where there is no room for heads.
 * @param {Translate} t
 * @param {Column<any>[]} columns
 */
function orderOf(t, columns) {
	const ways = columns.filter(({ sort }) => sort).flatMap(({ key }) => [[key, `${t(key)} ↑`], [`-${key}`, `${t(key)} ↓`]]);
	return h("select.order", { "aria-label": t("sort") },
		[["", t("usual_order")], ...ways].map(([value, text]) => h("option", { value }, text)));
}

/**
 * A row of the item with `id`.
 * @param {App} app
 * @param {Spec<any>} spec
 * @param {string} id
 * @returns {Row}
 */
export function makeRow({ store, t }, spec, id) {
	/** @type {Map<string, any>} */
	const items = store.items(spec.topic);
	const box = tickbox();
	const main = button("run", WRITES, "");
	const more = button("menu", { class: "icon", "aria-haspopup": "menu", ...WRITES }, "⋯");
	const fold = button("details", { class: "icon", "aria-expanded": "false" }, "");
	/** @type {((item: any) => void)[]} */
	const writes = [];
	const cells = spec.columns.map((column, at) => {
		const td = at ? data(column) : cell("th", { role: "rowheader", scope: "row" }, column);
		const { key, text, title } = column;
		setAttr(td, "data-label", t(key));
		writes.push(column.cell?.(td) ?? ((item) => setText(td, text?.(item) ?? "")));
		if (title) writes.push((item) => setAttr(td, "title", title(item)));
		return td;
	});
	const el = h("tr", { role: "row", "data-id": id, tabindex: -1 },
		spec.bulk && data({ key: "pick" }, h("label", box)), cells, data({ key: "acts" }, main, more),
		data({ key: "fold" }, fold));
	function patch() {
		const item = items.get(id);
		if (!item) return;
		for (const write of writes) write(item);
		const name = item.name ?? id.slice(0, 8);
		const first = spec.primary(item);
		setAttr(box, "aria-label", t("select", { name }));
		setAttr(more, "aria-label", t("actions_for", { name }));
		setAttr(fold, "aria-label", t("details_of", { name }));
		setAttr(main, "hidden", !first);
		setAttr(main, "value", first);
		setText(main, first ? t(first) : "");
	}
	patch();
	return { el, box, more, cells, patch };
}

/**
 * One row of `body` is a stop of the Tab key; Enter on a row follows its link.
 * @param {App} app
 * @param {HTMLElement} body
 */
export function rowKeys({ settings }, body) {
	body.addEventListener("focusin", ({ target }) => {
		body.querySelector("[tabindex='0']")?.setAttribute("tabindex", "-1");
		const row = /** @type {Element} */ (target).closest("tr");
		if (row) setAttr(row, "tabindex", 0);
	});
	body.addEventListener("keydown", (event) => {
		const { key, ctrlKey, metaKey, altKey } = event;
		const row = /** @type {Element} */ (event.target).closest("tr");
		if (!row || ctrlKey || metaKey || altKey) return;
		if (key.length === 1 && settings.get("shortcuts") === "off") return;
		const step = STEPS.get(key);
		if (step) focus(step > 0 ? row.nextElementSibling : row.previousElementSibling);
		else if (key === "Enter" && event.target === row) row.querySelector("a")?.click();
		else return;
		event.preventDefault();
	});
}

/**
 * A click on a row of `body` calls `open`, unless it presses something in the row, selects text, or ends a selection or
 * a menu.
 * @param {HTMLElement} body
 * @param {(row: HTMLElement) => unknown} open
 */
export function rowClicks(body, open) {
	const isSelecting = () => getSelection()?.isCollapsed === false;
	let ends = false;
	body.addEventListener("pointerdown", () => {
		ends = isSelecting() || document.querySelector("[role=menu]") !== null;
	});
	body.addEventListener("click", ({ target, ctrlKey, metaKey, shiftKey, altKey }) => {
		const el = /** @type {Element} */ (target);
		const row = el.closest("tr");
		if (!row || el.closest("a, button, input, label") || ctrlKey || metaKey || shiftKey || altKey) return;
		if (!ends && !isSelecting()) open(row);
	});
}
