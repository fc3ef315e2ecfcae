// @ts-check
/** Lines of texts that are patched, in a plain table or in anything else. */
import { h, keyed, setText } from "../dom.js";

/** @typedef {[id: string | number, texts: string[]]} Line */

/**
 * Gives what fills `el` with lines; what `make` gives has a child for each text.
 * @param {Element} el
 * @param {() => HTMLElement} make
 */
export function filler(el, make) {
	/** @type {Map<string | number, {el: HTMLElement}>} */
	const rows = new Map();
	return (/** @type {Line[]} */ lines) => {
		keyed(el, lines.map(([id]) => id), rows, () => ({ el: make() }));
		for (const [id, texts] of lines) {
			const cells = rows.get(id)?.el.children ?? [];
			texts.forEach((text, n) => setText(cells[n], text));
		}
	};
}

/**
 * A table that is not shown without lines.
 * @param {string} label
 * @param {string[]} heads
 */
export function sheet(label, heads) {
	const body = h("tbody");
	const head = h("tr", heads.map((text) => h("th", { scope: "col" }, text)));
	const el = h("div.scroll", { tabindex: 0, role: "group", "aria-label": label, hidden: true },
		h("table", h("thead", head), body));
	const fill = filler(body, () => h("tr", heads.map((_, n) => (n ? h("td") : h("th", { scope: "row" })))));
	return {
		el,
		/** @param {Line[]} lines */
		fill(lines) {
			el.hidden = !lines.length;
			fill(lines);
		},
	};
}
