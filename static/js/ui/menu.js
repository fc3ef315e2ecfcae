// @ts-check
/** A menu at a button, in the top layer: no matter what becomes of the button's row. */
import { byId, h } from "../dom.js";

/** @typedef {{value: string, label: string, [attribute: string]: unknown}} Entry */

/**
 * Resolves with the value chosen, or null.
 * @param {HTMLButtonElement} button
 * @param {Entry[]} items
 * @returns {Promise<string | null>}
 */
export const menu = (button, items) => new Promise((resolve) => {
	/** @type {string | null} */
	let chosen = null;
	const entries = items.map(({ label, ...attributes }) =>
		h("button", { role: "menuitem", tabindex: -1, ...attributes }, label));
	const el = h("div.menu", { role: "menu", popover: "", "aria-label": button.ariaLabel }, entries);
	el.onclick = ({ target }) => {
		chosen = target instanceof HTMLButtonElement ? target.value : null;
		if (chosen) el.hidePopover();
	};
	el.onkeydown = (event) => {
		if (event.key === "Tab") el.hidePopover();
		const to = destination(event.key, entries);
		if (to === undefined) return;
		event.preventDefault();
		entries.at(to % entries.length)?.focus();
	};
	el.ontoggle = ({ newState }) => {
		const open = newState === "open";
		// The button's next press closes this menu, and opens no other.
		button.popoverTargetElement = open ? el : null;
		button.onclick = open ? (event) => event.stopPropagation() : null;
		if (open) {
			entries[0].focus();
			return;
		}
		el.remove();
		resolve(chosen);
	};
	byId("main").append(el);
	/** @type {any} */ (el).showPopover({ source: button }); // the checker does not know its options yet
});

/**
 * Where the key leads to among the entries; -1 is the last.
 * @param {string} key
 * @param {HTMLElement[]} entries
 */
function destination(key, entries) {
	const at = entries.findIndex((entry) => entry === document.activeElement);
	/** @type {Record<string, number>} */
	const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: -1 };
	return to[key];
}
