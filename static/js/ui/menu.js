// @ts-check
/** What opens at a button: a menu, or the controls for which a phone has no room. */
import { byId, h, setAttr } from "../dom.js";

/** @import { Child } from "../dom.js" */
/** @import { Translate } from "../types.js" */

/** @typedef {{value: string, label: string, [attribute: string]: unknown}} Entry */

const FOLDED = "filters";

/**
 * The button and what it unfolds; with more room that stands in the open: see the style sheet. `mark` shows on the
 * button whether a control in there has an effect.
 * @param {Translate} t
 * @param {...Child} controls
 */
export function folded(t, ...controls) {
	const button = h("button.folds", { "aria-expanded": "false", "aria-controls": FOLDED }, t("filters"));
	button.onclick = () => {
		button.ariaExpanded = String(button.ariaExpanded === "false");
	};
	return {
		els: [button, h("div.folded", { id: FOLDED }, controls)],
		mark: (/** @type {boolean} */ on) => setAttr(button, "data-on", on),
	};
}

/**
 * A menu in the top layer: no matter what becomes of the button's row. Resolves with the value chosen, or null.
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
