// @ts-check
/** Tabs by the ARIA pattern: one is in the tab order, arrow keys, Home and End choose. */
import { h, setAttr } from "../dom.js";

/** @typedef {{name: string, label: string, content: HTMLElement}} Page */

let groups = 0;

/**
 * Shows the page called `first`, or else the first one; `chosen` is called with the name of another that is chosen.
 * @param {string} label
 * @param {Page[]} pages
 * @param {string} [first]
 * @param {(name: string) => void} [chosen]
 */
export function tabs(label, pages, first = "", chosen = () => {}) {
	groups += 1;
	const ids = pages.map(({ name }) => `tab-${groups}-${name}`);
	const panels = pages.map(({ content }, n) =>
		h("div.tabpanel", { role: "tabpanel", id: `${ids[n]}-panel`, "aria-labelledby": ids[n], tabindex: 0 }, content));
	const buttons = pages.map((page, n) =>
		h("button", { type: "button", role: "tab", id: ids[n], "aria-controls": `${ids[n]}-panel` }, page.label));

	/** @param {number} at */
	function show(at) {
		buttons.forEach((button, n) => {
			setAttr(button, "aria-selected", String(n === at));
			setAttr(button, "tabindex", n === at ? 0 : -1);
			panels[n].hidden = n !== at;
		});
	}

	/** @param {number} at */
	function choose(at) {
		show(at);
		chosen(pages[at].name);
	}

	/** @param {KeyboardEvent} event */
	function move(event) {
		const now = buttons.findIndex((button) => button === event.target);
		const last = pages.length - 1;
		const to = { ArrowLeft: now ? now - 1 : last, ArrowRight: now < last ? now + 1 : 0, Home: 0, End: last }[event.key];
		if (to === undefined || now < 0) return;
		event.preventDefault();
		buttons[to].focus();
		choose(to);
	}

	buttons.forEach((button, n) => {
		button.onclick = () => choose(n);
	});
	const list = h("div.tabs", { role: "tablist", "aria-label": label }, buttons);
	list.onkeydown = move;
	show(Math.max(0, pages.findIndex(({ name }) => name === first)));
	return h("div", list, panels);
}
