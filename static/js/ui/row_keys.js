// @ts-check
/** What opens rows: a click, and the keys of a table whose rows do nothing else. */
import { focus, setAttr } from "../dom.js";

const STEPS = new Map([["ArrowDown", 1], ["j", 1], ["ArrowUp", -1], ["k", -1]]);

/** @import { App } from "../types.js" */

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
