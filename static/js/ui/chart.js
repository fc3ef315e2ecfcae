// @ts-check
/** Stacked bars over time: a picture, a cursor that reads a bar out, and a table. */
import { h, setAttr, setText, svg } from "../dom.js";
import { compact, number } from "../format.js";
import { STEPS, barPaths, niceStep, rate, ticks } from "./scale.js";
import { sheet } from "./sheet.js";

/** The picture is stretched to the place that there is. */
const WIDTH = 720;
const HEIGHT = 160;
const TIMES = 6;
/** Patterns of the series, so that they differ by more than colour. */
const HATCHES = ["", "M0 6 6 0", "M0 3h6", "M3 0v6", "M0 0 6 6", "M2 2h2v2h-2z"];
const HATCH_SIZE = { width: 6, height: 6 };
/** The least that the axis reaches: 4 of what is counted, or 4 cents. */
const LEAST = 4;
const LEAST_USD = 0.04;
const NO_CURSOR = -1;

/** @import { App, Bucket } from "../types.js" */
/** @import { Line } from "./sheet.js" */

/** A field of the buckets, and the class of its colour. @typedef {{key: string, label: string}} Series */
/**
 * `open` is called with a bar on which somebody clicks, or presses Enter.
 * @typedef {{series: Series[], label: string, text?: (n: number) => string, open?: (bar: Bucket) => void}} Spec
 */

/** @param {number[]} numbers */
const sum = (numbers) => numbers.reduce((a, b) => a + b);
/** @param {string} key of a series */
const fill = (key) => ({ fill: `url(#${key})` });

/**
 * @param {App} app
 * @param {Spec} spec
 */
export function bars(app, spec) {
	const chart = new Chart(app, spec);
	return {
		el: chart.parts.el,
		/** All buckets, oldest first. @param {Bucket[]} buckets */
		patch: (buckets) => chart.patch(buckets),
	};
}

/**
 * What stands still.
 * @param {App} app
 * @param {Spec} spec
 * @param {string[]} heads of the table
 */
function build({ t }, { series, label, open }, heads) {
	const paths = series.map(({ key }) => svg("path", fill(key)));
	const partial = svg("path.partial");
	const cursor = svg("path.cursor");
	const tile = { patternUnits: "userSpaceOnUse", ...HATCH_SIZE };
	const patterns = series.map(({ key }, n) => svg("pattern", { id: key, ...tile },
		svg(`rect.${key}`, HATCH_SIZE), svg("path", { d: HATCHES[n] })));
	const view = { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none" };
	const kind = open ? "svg.opens" : "svg";
	const picture = /** @type {SVGElement} */ (svg(kind, { role: "img", tabindex: 0, "aria-label": label, ...view },
		patterns, paths, partial, cursor));
	/** @type {(name: string, labels: number) => HTMLElement} */
	const axis = (name, labels) => h(`div.${name}`, Array.from({ length: labels }, () => h("span")));
	const y = axis("y", STEPS + 1);
	const x = axis("x", TIMES);
	const readout = h("p.muted");
	const table = sheet(label, heads);
	const details = h("details", h("summary", t("show_as_table")), table.el);
	const keys = h("ul.row", series.map(({ key, label }) => h("li",
		svg("svg", { "aria-hidden": "true" }, svg("path", { d: "M0 0h12v12H0", ...fill(key) })), label)),
	h("li.partial", t("incomplete")));
	const el = h("figure.chart", keys, y, picture, x, readout, details);
	return { el, paths, partial, cursor, picture, y, x, readout, table, details };
}

class Chart {
	/**
	 * @param {App} app
	 * @param {Spec} spec
	 */
	constructor(app, spec) {
		this.app = app;
		this.label = spec.label;
		this.series = spec.series;
		this.open = spec.open;
		this.text = spec.text ?? number;
		const counts = this.text === number;
		/** As `text`, for axis and peak. */
		this.brief = counts ? compact : this.text;
		this.least = counts ? LEAST : LEAST_USD;
		this.heads = [app.t("time"), ...spec.series.map(({ label }) => label)];
		/** @type {Bucket[]} */
		this.buckets = [];
		this.cursor = NO_CURSOR;
		this.parts = build(app, spec, this.heads);
		this.listen();
	}

	/** @param {Bucket} bucket */
	numbers(bucket) {
		return this.series.map(({ key }) => bucket[key]);
	}

	/** @param {Bucket} bucket */
	when({ start }, zone = true) {
		return this.app.clock(start * 1000, { zone, seconds: false });
	}

	/** @param {Bucket} bucket */
	texts(bucket) {
		return [this.when(bucket), ...this.numbers(bucket).map((n) => this.text(n))];
	}

	draw() {
		if (!this.buckets.length) return;
		const { buckets, parts } = this;
		const stacks = buckets.map((bucket) => this.numbers(bucket));
		const totals = stacks.map(sum);
		const step = niceStep(Math.max(...totals), this.least);
		const paths = barPaths(stacks, this.series.length, { width: WIDTH, height: HEIGHT, step });
		parts.paths.forEach((path, n) => setAttr(path, "d", paths[n]));
		this.drawBand(parts.partial, buckets.length - 1);
		this.drawBand(parts.cursor, this.cursor);
		this.drawAxes(step);
		const sentence = this.sentence(totals);
		setAttr(parts.picture, "aria-label", sentence);
		const here = buckets[this.cursor];
		setText(parts.readout, here ? this.reading(here) : sentence);
		this.drawTable();
	}

	/**
	 * @param {Element} path
	 * @param {number} bar
	 */
	drawBand(path, bar) {
		const each = WIDTH / this.buckets.length;
		setAttr(path, "d", `M${(bar + 0.5) * each} 0v${HEIGHT}`);
		setAttr(path, "stroke-width", each);
	}

	/** @param {number} step */
	drawAxes(step) {
		const { parts: { x, y }, buckets } = this;
		ticks(step).forEach((n, at) => setText(y.children[at], this.brief(n)));
		[...x.children].forEach((span, n) => setText(span, this.when(buckets[Math.floor(n * buckets.length / TIMES)], false)));
	}

	drawTable() {
		const { details, table } = this.parts;
		if (!details.open) return;
		table.fill(this.buckets.map((bucket) => /** @type {Line} */ ([bucket.start, this.texts(bucket)])).reverse());
	}

	/** What there is to see, in a sentence. @param {number[]} totals */
	sentence(totals) {
		const { label } = this;
		const most = Math.max(...totals);
		if (!most) return `${label}: –`;
		const peak = this.buckets[totals.indexOf(most)];
		const { n, unit } = rate(most, peak.span_s);
		return this.app.t("chart_sentence",
			{ label, total: this.text(sum(totals)), peak: this.brief(n), unit, at: this.when(peak) });
	}

	/** @param {Bucket} bucket */
	reading(bucket) {
		return this.texts(bucket).map((text, n) => `${this.heads[n]} ${text}`).join(" · ");
	}

	/**
	 * Moves the cursor. What the keys lead to is spoken, what the feed changes is not.
	 * @param {number} bar
	 * @param {"off" | "polite"} live
	 */
	point(bar, live = "off") {
		this.cursor = bar;
		setAttr(this.parts.readout, "aria-live", live);
		this.draw();
	}

	listen() {
		const { picture, details } = this.parts;
		details.ontoggle = () => this.draw();
		picture.onpointermove = ({ clientX }) => {
			const { left, width } = picture.getBoundingClientRect();
			this.point(Math.floor((clientX - left) / width * this.buckets.length));
		};
		picture.onpointerleave = () => this.point(NO_CURSOR);
		// A finger that touches a bar wants it read out.
		picture.onclick = (event) => {
			if (/** @type {PointerEvent} */ (event).pointerType !== "touch") this.openBar();
		};
		picture.onkeydown = ({ key }) => {
			if (key === "Enter") this.openBar();
			if (key === "ArrowLeft") this.move(-1);
			if (key === "ArrowRight") this.move(1);
		};
	}

	/** Shows what is behind the bar at the cursor. */
	openBar() {
		const here = this.buckets[this.cursor];
		if (here) this.open?.(here);
	}

	/** Begins at the newest bar. @param {number} by */
	move(by) {
		const end = this.buckets.length - 1;
		const to = Math.min(end, Math.max(0, this.cursor + by));
		this.point(this.cursor === NO_CURSOR ? end : to, "polite");
	}

	/** @param {Bucket[]} buckets */
	patch(buckets) {
		this.buckets = buckets;
		this.point(this.cursor);
	}
}
