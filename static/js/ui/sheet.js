/** Lines of texts that are patched, in a plain table or in anything else. */
import { h, keyed, setText } from "../dom.js";

/** Gives what fills `el` with lines [id, texts]; what `make` gives has a child for each text. */
export function filler(el, make) {
	const rows = new Map();
	return (lines) => {
		keyed(el, lines.map(([id]) => id), rows, () => ({ el: make() }));
		for (const [id, texts] of lines) texts.forEach((text, n) => setText(rows.get(id).el.children[n], text));
	};
}

/** Without lines it is not shown. */
export function sheet(label, heads) {
	const body = h("tbody"), head = h("tr", heads.map((text) => h("th", { scope: "col" }, text)));
	const el = h("div.scroll", { tabindex: 0, role: "group", "aria-label": label, hidden: true },
		h("table", h("thead", head), body));
	const fill = filler(body, () => h("tr", heads.map((_, n) => (n ? h("td") : h("th", { scope: "row" })))));
	return { el, fill: (lines) => ((el.hidden = !lines.length), fill(lines)) };
}
