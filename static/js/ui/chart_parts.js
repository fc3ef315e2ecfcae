// @ts-check
/** What a chart is made of: a picture with its axes, keys that isolate a series, and what is read at the cursor. */
import { h, setAttr, setText, sheet, svg } from "../dom.js";
import { STEPS } from "./scale.js";

/** The picture is stretched to the place that there is. */
export const WIDTH = 720;
export const HEIGHT = 160;
/** Patterns of the series under forced colours, so that they differ there as well. */
const HATCHES = ["", "M0 6 6 0", "M0 3h6", "M3 0v6", "M0 0 6 6", "M2 2h2v2h-2z", "M0 1h6", "M1 0v6"];
const HATCH = { patternUnits: "userSpaceOnUse", width: 6, height: 6 };
const PART = 100;

/** @import { App } from "../types.js" */
/** @import { Tick } from "./scale.js" */

/** `key` is the class of its colour. @typedef {{key: string, label: string, of?: (bar: any) => number | null}} Series */
/** @typedef {"bars" | "lines"} Kind */

let made = 0;

/**
 * The paths of series, and small pictures of them for what explains them.
 * @param {Kind} kind
 * @param {Series[]} series
 */
export function pathsOf(kind, series) {
	made += 1;
	const mine = made;
	const id = (/** @type {number} */ n) => `hatch-${mine}-${n}`;
	const look = (/** @type {Series} */ { key }, /** @type {number} */ n) =>
		(kind === "bars" ? { class: key, fill: `url(#${id(n)})` } : { class: `${key} line-${n}` });
	const patterns = kind === "bars" ? series.map(({ key }, n) => svg("pattern", { id: id(n), ...HATCH },
		svg(`rect.${key}`, { width: 6, height: 6 }), svg("path", { d: HATCHES[n % HATCHES.length] }))) : [];
	return {
		patterns,
		paths: series.map((each, n) => svg("path", look(each, n))),
		swatch: (/** @type {number} */ n) => svg(`svg.${kind}`, { "aria-hidden": "true", viewBox: "0 0 12 12" },
			svg("path", { ...look(series[n], n), d: kind === "bars" ? "M0 0h12v12H0" : "M0 6h12" })),
	};
}

/**
 * What stands still.
 * @param {App} app
 * @param {{label: string, kind: Kind, opens: boolean}} spec
 */
export function build({ t }, { label, kind, opens }) {
	const series = svg("g");
	const grid = svg("path.ticks");
	const [before, partial, cursor, drag] = ["before", "partial", "cursor", "drag"].map((name) => svg(`path.${name}`));
	const picture = /** @type {SVGElement} */ (svg(`svg.${kind}${opens ? ".opens" : ""}`, { role: "img", tabindex: 0,
		"aria-label": label, viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none" },
	grid, series, before, partial, cursor, drag));
	const tip = h("div.tip", { "aria-hidden": "true", hidden: true });
	const keys = h("ul.row.keys");
	const unit = h("small");
	const y = h("div.y", Array.from({ length: STEPS + 1 }, () => h("span")));
	const x = h("div.x");
	const readout = h("p.muted");
	const details = h("details", h("summary", t("show_as_table")));
	const el = h("figure.chart", unit, keys, y, h("div.plot", picture, tip), x, readout, details);
	return { el, series, grid, before, partial, cursor, drag, picture, tip, keys, unit, y, x, readout, details };
}

/**
 * @param {Element} x
 * @param {(Tick & {text: string, part: number})[]} labels `part` is where, from 0 to 1
 */
export function placeLabels(x, labels) {
	while (x.childElementCount > labels.length) x.lastElementChild?.remove();
	labels.forEach(({ text, part, midnight }, n) => {
		const span = /** @type {HTMLElement} */ (x.children[n] ?? x.appendChild(h("span")));
		setText(span, text);
		setAttr(span, "data-day", midnight);
		span.style.left = `${part * PART}%`;
	});
}

/**
 * Shows what is read at the cursor: beside it, or on a phone below the picture.
 * @param {HTMLElement} tip
 * @param {number} part where the cursor is, from 0 to 1
 * @param {string} head
 * @param {{swatch: Element | null, label: string, text: string}[]} lines
 */
export function showTip(tip, part, head, lines) {
	tip.hidden = false;
	tip.replaceChildren(h("b", head), h("ul", lines.map(({ swatch, label, text }) =>
		h("li", swatch ?? h("i"), h("span", label), h("b", text)))));
	const right = part > 0.5;
	tip.style.setProperty("--left", right ? "auto" : `calc(${part * PART}% + 12px)`);
	tip.style.setProperty("--right", right ? `calc(${(1 - part) * PART}% + 12px)` : "auto");
}

/**
 * A table in the place of the last one.
 * @param {HTMLElement} details
 * @param {string} label
 * @param {string[]} heads
 */
export function tableIn(details, label, heads) {
	const table = sheet(label, heads);
	details.replaceChildren(details.firstElementChild ?? "", table.el);
	return table;
}
