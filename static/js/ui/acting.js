// @ts-check
/** What is done to the rows of a table: selection, bulk actions, menus, keys. */
import { focus, h, setAttr, setText } from "../dom.js";
import { busy, press } from "./dialog.js";
import { menu } from "./menu.js";

/** @import { App, TextKey } from "../types.js" */
/** @import { Entry } from "./menu.js" */
/** @import { Rows, Spec } from "./table.js" */

/** Acts that cannot be undone. */
const GRAVE = ["delete", "revoke"];

/**
 * @typedef {object} Parts Those of the table that are needed here.
 * @property {HTMLElement} grid
 * @property {HTMLElement} body
 * @property {Rows} rows
 * @property {HTMLInputElement} all the box that selects all rows
 */

/** @param {Element} node */
const rowOf = (node) => /** @type {HTMLElement} */ (node.closest("[data-id]"));
/** @param {Element} node */
const idOf = (node) => rowOf(node).dataset.id ?? "";

/**
 * @param {App} app
 * @param {Spec<any>} spec
 * @param {Parts} parts
 */
export const acting = (app, spec, parts) => new Acting(app, spec, parts);

class Acting {
	/**
	 * @param {App} app
	 * @param {Spec<any>} spec
	 * @param {Parts} parts
	 */
	constructor({ t, store }, spec, parts) {
		const { body } = parts;
		this.t = t;
		this.spec = spec;
		this.parts = parts;
		/** @type {Map<string, any>} */
		this.items = store.items(spec.topic);
		/** @type {Set<string>} */
		this.selected = new Set();
		this.count = h("b");
		this.bulk = this.bulkBar();
		parts.grid.before(this.bulk);
		body.addEventListener("focusin", ({ target }) => this.rove(/** @type {Element} */ (target)));
		if (body.contains(document.activeElement)) this.rove(document.activeElement);
		this.pick();
	}

	/** @param {TextKey} value @returns {Entry} */
	choice(value) {
		return { value, label: this.t(value), class: GRAVE.includes(value) && "danger" };
	}

	bulkBar() {
		const { spec } = this;
		const buttons = spec.bulk?.map((name) =>
			press({ ...this.choice(name), "data-write": true, run: () => spec.act(name, [...this.selected]) }));
		const clear = press({ label: this.t("clear_selection"), run: () => this.clearAll() });
		return h("div.bulk.row", this.count, buttons, clear);
	}

	/** Makes the row of a node, and no other, a stop of the Tab key. @param {Element | null} node */
	rove(node) {
		this.parts.body.querySelector("[tabindex='0']")?.setAttribute("tabindex", "-1");
		node?.closest("[data-id]")?.setAttribute("tabindex", "0");
	}

	/** Shows the selection; what is gone is out of it. */
	pick() {
		const { selected, parts: { all, rows } } = this;
		for (const id of selected) {
			if (!this.items.has(id)) selected.delete(id);
		}
		let here = 0;
		for (const [id, { el, box }] of rows) {
			box.checked = selected.has(id);
			if (box.checked) here += 1;
			setAttr(el, "data-selected", box.checked);
		}
		all.checked = here > 0 && here === rows.size;
		all.indeterminate = here > 0 && !all.checked;
		this.bulk.hidden = !selected.size;
		setText(this.count, this.t("selected", { n: selected.size }));
	}

	clear() {
		this.selected.clear();
		this.pick();
	}

	clearAll() {
		this.clear();
		this.parts.all.focus();
	}

	/**
	 * @param {HTMLInputElement} box
	 * @param {boolean} on
	 */
	check(box, on) {
		const ids = box === this.parts.all ? this.parts.rows.keys() : [idOf(box)];
		for (const id of ids) {
			if (on) this.selected.add(id);
			else this.selected.delete(id);
		}
		this.pick();
	}

	/** Does the row's first action. @param {HTMLButtonElement} source */
	run(source) {
		busy(source, () => this.spec.act(source.value, [idOf(source)]));
	}

	/** @param {HTMLButtonElement} source */
	async menu(source) {
		const id = idOf(source);
		const names = this.spec.menu(this.items.get(id));
		const chosen = await menu(source, names.map((name) => this.choice(name)));
		if (chosen) busy(source, () => this.spec.act(chosen, [id]));
	}

	/**
	 * @param {string} key
	 * @param {Element} target
	 */
	key(key, target) {
		const tr = rowOf(target);
		const id = idOf(target);
		const row = this.parts.rows.get(id);
		if (key === "ArrowDown" || key === "j") focus(tr.nextElementSibling);
		else if (key === "ArrowUp" || key === "k") focus(tr.previousElementSibling);
		else if (key === "Enter") this.spec.act("open", [id]);
		else if (key === "x" && this.spec.bulk && row) this.check(row.box, !row.box.checked);
		else if (key === "." && row) this.menu(row.more);
	}
}
