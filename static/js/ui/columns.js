// @ts-check
/** Which columns of a table are shown: all but those that are empty for all its items. */
import { setAttr } from "../dom.js";

/** @import { Row, Spec } from "./table.js" */

const NOTHING = [undefined, null, "", "–"];

/**
 * @param {import("./table.js").Column<any>} column
 * @param {any} item
 */
function isFilled({ filled, text, sort }, item) {
	const value = filled ?? text ?? sort;
	return !value || !NOTHING.includes(value(item));
}

/**
 * Gives what hides the empty columns. The style sheet has the width of each, `--w-<key>`, if it stands in a row's first
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
