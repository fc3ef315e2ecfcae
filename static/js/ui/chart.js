// @ts-check
/** Stacked bars or step lines over time: a picture, a cursor that reads it out, and a table. */
import { h, setAttr, setText } from "../dom.js";
import { axisText, dayMonth, number } from "../format.js";
import { HEIGHT, WIDTH, build, pathsOf, placeLabels, showTip, tableIn } from "./chart_parts.js";
import { linesOf, listen, readingOf, sentenceOf, spanOf } from "./chart_words.js";
import { barPaths, niceStep, rate, stepPath, ticks, timeTicks } from "./scale.js";

/** The least that the axis reaches: 4 of what is counted. */
const LEAST = 4;
const LABEL_PX = 64;
const FEWEST_LABELS = 2;
/** No label stands so near to an end that it would be cut off. */
const EDGE_PX = 20;
const SECOND_MS = 1000;

/** @import { App } from "../types.js" */
/** @import { Kind, Series } from "./chart_parts.js" */
/** @import { Line } from "../dom.js" */

/** A bucket, or what has such a time. @typedef {{start: number, span_s: number}} Bar */
/** The time before: its bars, moved to where they are drawn; `of` if they are not of the series. @typedef
 * {{bars: Bar[], of?: (bar: any) => number | null}} Before */
/**
 * `step` is that of the axis if it does not depend on what there is.
 * `open` is called with a bar on which somebody clicks, or presses Enter, and the number of the series that is isolated,
 * or -1. `zoom` is called with what was dragged over; without it the chart itself shows that.
 * @typedef {{series?: Series[], label: string | (() => string), kind?: Kind, text?: (n: number) => string, least?: number, step?: number,
 *	sum?: (bars: any[], total: number) => string, sentence?: (bars: any[]) => string,
 *	open?: (bar: any, only: number) => void, zoom?: (from_s: number, to_s: number) => void}} Spec
 */

/** @param {(number | null)[]} numbers */
const sum = (numbers) => numbers.reduce((/** @type {number} */ a, b) => a + (b ?? 0), 0);

/** @type {(bar: any, series: Series) => number | null} */
const valueOf = (bar, { key, of }) => (of ? of(bar) : bar[key]);

/**
 * @param {App} app
 * @param {Spec} spec
 */
export const bars = (app, spec) => new Chart(app, spec);

export class Chart {
	/**
	 * @param {App} app
	 * @param {Spec} spec
	 */
	constructor(app, spec) {
		this.app = app;
		this.spec = spec;
		this.kind = spec.kind ?? "bars";
		this.text = spec.text ?? number;
		/** @type {Series[]} */
		this.series = [];
		/** @type {Bar[]} */
		this.all = [];
		/** @type {Bar[]} those that are shown */
		this.bars = [];
		/** @type {Before | undefined} */
		this.before = undefined;
		/** @type {[from_s: number, to_s: number] | null} */
		this.part = null;
		this.only = -1;
		this.cursor = -1;
		this.dragged = -1;
		this.parts = build(app, { label: this.label(), kind: this.kind, opens: Boolean(spec.open) });
		this.el = this.parts.el;
		this.look = pathsOf(this.kind, []);
		if (spec.series) this.setSeries(spec.series);
		listen(this.parts.picture, this);
		this.parts.details.ontoggle = () => this.draw();
		new ResizeObserver(() => this.draw()).observe(this.parts.x);
	}

	/** What it shows, and of which time. */
	label() {
		const { label } = this.spec;
		return typeof label === "string" ? label : label();
	}

	/**
	 * All bars, oldest first.
	 * @param {Bar[]} all
	 * @param {{series?: Series[], before?: Before}} [more]
	 */
	patch(all, { series, before } = {}) {
		this.all = all;
		this.before = before;
		if (series && JSON.stringify(series) !== JSON.stringify(this.series)) this.setSeries(series);
		else if (series) this.series = series;
		this.draw();
	}

	/** @param {Series[]} series */
	setSeries(series) {
		this.series = series;
		this.only = -1;
		this.look = pathsOf(this.kind, series);
		this.parts.series.replaceChildren(...this.look.patterns, ...this.look.paths);
		this.drawKeys();
	}

	drawKeys() {
		const { app: { t }, series, look, parts: { keys } } = this;
		const isolate = (/** @type {number} */ n) => {
			this.only = this.only === n ? -1 : n;
			this.draw();
		};
		const key = (/** @type {Series} */ { label }, /** @type {number} */ n) => {
			const button = h("button.link", { "aria-pressed": "false" }, look.swatch(n), label);
			button.onclick = () => isolate(n);
			return h("li", button);
		};
		const reset = h("button.link.reset", { hidden: true }, t("zoom_out"));
		reset.onclick = () => this.zoom(null);
		keys.replaceChildren(...(series.length > 1 ? series.map(key) : []), h("li.was", { hidden: true }, t("before")),
			h("li.partial", t("incomplete")), reset);
	}

	/** The values of the series that are shown, null for others. @param {Bar} bar */
	values(bar) {
		return this.series.map((series, n) => (this.only < 0 || this.only === n ? valueOf(bar, series) : null));
	}

	/** The values of the time before. */
	past() {
		const { before, only } = this;
		if (!before || (before.of && only >= 0)) return [];
		const total = (/** @type {Bar} */ bar) => (this.kind === "bars" ? sum(this.values(bar)) : this.values(bar)[0]);
		return before.bars.map(before.of ?? total);
	}

	draw() {
		const { all, part } = this;
		const shown = all.filter(({ start }) => !part || (start >= part[0] && start < part[1]));
		this.bars = shown.length ? shown : all;
		const { bars, parts, series } = this;
		if (!bars.length) return;
		const rows = bars.map((bar) => this.values(bar));
		const past = this.past();
		const { least = LEAST } = this.spec;
		const stacked = this.kind === "bars";
		const { span_s } = bars[0];
		const times = stacked ? span_s / (this.before?.bars[0]?.span_s ?? span_s) : 1;
		const tops = [...rows.map((row) => (stacked ? sum(row) : Math.max(...row.map((n) => n ?? 0)))),
			...past.map((n) => (n ?? 0) * times)];
		const { unit, per } = stacked ? rate(Math.max(...tops) || least, span_s) : { unit: "", per: 1 };
		const step = this.spec.step ?? niceStep(Math.max(...tops) * per, least * per);
		const scale = { width: WIDTH, height: HEIGHT, step: step / per };
		const paths = stacked ? barPaths(rows.map((row) => row.map((n) => n ?? 0)), series.length, scale)
			: series.map((_, n) => stepPath(rows.map((row) => row[n]), scale));
		this.look.paths.forEach((path, n) => setAttr(path, "d", paths[n]));
		this.drawPast(past.map((n) => (n === null ? null : n * times)), scale);
		this.drawKeyStates();
		this.drawBand(parts.partial, bars.length - 1, 1);
		this.drawAxes(step, unit);
		this.drawCursor();
		this.drawTable();
	}

	/**
	 * @param {(number | null)[]} values
	 * @param {import("./scale.js").Scale} scale
	 */
	drawPast(values, scale) {
		const [first] = this.before?.bars ?? [];
		const [from, to] = this.ends();
		const px = WIDTH / (to - from);
		setAttr(this.parts.before, "d", values.length > 0 &&
			stepPath(values, { ...scale, first: (first.start - from) * px, each: first.span_s * px }));
	}

	drawKeyStates() {
		const { parts: { keys }, only } = this;
		keys.querySelectorAll("[aria-pressed]").forEach((key, n) => setAttr(key, "aria-pressed", String(n === only)));
		setAttr(keys.querySelector(".was") ?? keys, "hidden", !this.past().length);
		setAttr(keys.querySelector(".reset") ?? keys, "hidden", !this.part);
	}

	/** When the first bar begins and the last one ends. */
	ends() {
		const last = this.bars[this.bars.length - 1];
		return [this.bars[0].start, last.start + last.span_s];
	}

	/**
	 * @param {Element} path
	 * @param {number} bar
	 * @param {number} size how many bars
	 */
	drawBand(path, bar, size) {
		const each = WIDTH / this.bars.length;
		setAttr(path, "d", bar >= 0 && `M${(bar + size / 2) * each} 0v${HEIGHT}`);
		setAttr(path, "stroke-width", each * size);
	}

	/**
	 * @param {number} step
	 * @param {string} unit
	 */
	drawAxes(step, unit) {
		const { parts: { x, y, grid, picture, unit: name }, app } = this;
		const utc = app.settings.get("time") === "utc";
		const text = this.spec.text ?? axisText;
		ticks(step).forEach((n, at) => setText(y.children[at], text(n)));
		setText(name, unit && app.t(/** @type {any} */ (`per_${unit}`)));
		const width = picture.getBoundingClientRect().width;
		const [from, to] = this.ends();
		const found = timeTicks(from, to, Math.max(FEWEST_LABELS, Math.floor(width / LABEL_PX)), utc ? () => 0 : undefined)
			.map((tick) => ({ ...tick, part: (tick.at - from) / (to - from) }));
		setAttr(grid, "d", found.map(({ part }) => `M${part * WIDTH} 0v${HEIGHT}`).join(""));
		placeLabels(x, found.filter(({ part }) => part * width > EDGE_PX && (1 - part) * width > EDGE_PX)
			.map((tick) => ({ ...tick, text: tick.midnight ? dayMonth(tick.at * SECOND_MS, utc) : this.when(tick.at, { zone: false, now: 0 }) })));
	}

	/** With its day if that is not today, unless `now` is 0. @param {number} at @param {import("../types.js").ClockOptions} [options] */
	when(at, options) {
		return this.app.clock(at * SECOND_MS, { zone: true, seconds: false, ...options });
	}

	/** @param {Bar} bar */
	texts(bar) {
		return this.values(bar).map((n) => (n === null ? "–" : this.text(n)));
	}

	/** The values that are shown, added up. @param {Bar} bar */
	total(bar) {
		return sum(this.values(bar));
	}

	/** What bars come to, or what it says of them. @param {Bar[]} bars */
	sum(bars) {
		const total = sum(bars.map((bar) => this.total(bar)));
		return this.spec.sum && this.only < 0 ? this.spec.sum(bars, total) : this.text(total);
	}

	drawTable() {
		const { details } = this.parts;
		if (!details.open) return;
		const heads = [this.app.t("time"), ...this.series.map(({ label }) => label)];
		if (details.dataset.heads !== heads.join()) this.table = tableIn(details, this.label(), heads);
		details.dataset.heads = heads.join();
		this.table?.fill(this.bars.map((bar) =>
			/** @type {Line} */ ([bar.start, [this.when(bar.start), ...this.texts(bar)]])).reverse());
	}

	drawCursor() {
		const { parts, bars, cursor, dragged } = this;
		const here = bars[cursor];
		this.drawBand(parts.cursor, here && dragged < 0 ? cursor : -1, 1);
		this.drawBand(parts.drag, dragged < 0 ? -1 : Math.min(dragged, cursor), Math.abs(cursor - dragged) + 1);
		const sentence = sentenceOf(this);
		setAttr(parts.picture, "aria-label", sentence);
		const spoken = here && parts.readout.ariaLive === "polite";
		setText(parts.readout, spoken ? readingOf(this, here) : sentence);
		if (here) showTip(parts.tip, (cursor + 0.5) / bars.length, spanOf(this, here), linesOf(this, here));
		else parts.tip.hidden = true;
	}

	/** What was at this place in the time before, if that has bars of the same length. @param {Bar} bar */
	pastAt(bar) {
		const at = this.before?.bars.findIndex(({ start, span_s }) => start === bar.start && span_s === bar.span_s) ?? -1;
		return this.past()[at] ?? null;
	}

	/**
	 * Moves the cursor. What the keys lead to is spoken, what the feed changes is not.
	 * @param {number} bar
	 * @param {"off" | "polite"} live
	 */
	point(bar, live = "off") {
		this.cursor = bar;
		this.parts.readout.ariaLive = live;
		if (this.bars.length) this.drawCursor();
	}

	/** Shows what is behind the bar at the cursor. */
	open() {
		const here = this.bars[this.cursor];
		if (here) this.spec.open?.(here, this.only);
	}

	/** @param {[from_s: number, to_s: number] | null} part */
	zoom(part) {
		this.cursor = -1;
		if (part && this.spec.zoom) this.spec.zoom(...part);
		else this.part = part;
		this.draw();
	}
}
