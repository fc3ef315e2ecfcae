// @ts-check
/** What a chart says in words, and how it is pointed at: by mouse, finger and keys. */
import { axisText } from "../format.js";
import { rate } from "./scale.js";

const DAY_S = 86_400;
const NOTHING = "–";

/** @import { Series } from "./chart_parts.js" */
/** @import { Bar, Chart } from "./chart.js" */

/** What there is to see. @param {Chart} chart */
export function sentenceOf(chart) {
	const { spec: { sentence, text = axisText }, bars, app, kind, series, only } = chart;
	const label = chart.label();
	if (sentence && only < 0) return `${label}: ${sentence(bars)}`;
	if (kind === "lines") {
		return `${label}: ${series.map((each, n) => courseOf(chart, each, n)).filter(Boolean).join("; ") || NOTHING}`;
	}
	const totals = bars.map((bar) => chart.total(bar));
	const most = Math.max(...totals);
	if (!most) return `${label}: ${NOTHING}`;
	const peak = bars[totals.indexOf(most)];
	const { n, unit } = rate(most, peak.span_s);
	return app.t("chart_sentence", { label, total: chart.sum(bars), peak: text(n), unit, at: chart.when(peak.start) });
}

/**
 * How high a line came, and where it is now; "" if it is not shown.
 * @param {Chart} chart
 * @param {Series} series
 * @param {number} n which one that is
 */
function courseOf(chart, { label }, n) {
	const values = chart.bars.map((bar) => chart.values(bar)[n]);
	const now = values[values.length - 1];
	const most = Math.max(...values.map((value) => value ?? 0));
	return values.some((value) => value !== null) ? chart.app.t("q_line",
		{ label, most: chart.text(most), now: now === null ? NOTHING : chart.text(now) }) : "";
}

/** "27 Nov, 15:00–17:00 CET" @param {Chart} chart @param {Bar} bar */
export const spanOf = (chart, { start, span_s }) =>
	`${chart.when(start, { zone: false })}–${chart.when(start + span_s, span_s < DAY_S ? { now: 0 } : {})}`;

/** A bar in one line. @param {Chart} chart @param {Bar} bar */
export const readingOf = (chart, bar) =>
	[chart.when(bar.start), ...chart.texts(bar).map((text, n) => `${chart.series[n].label} ${text}`)].join(" · ");

/**
 * A line for each series that has something there, as they stand from the top down; their total; the time before.
 * @param {Chart} chart
 * @param {Bar} bar
 * @returns {{swatch: Element | null, label: string, text: string}[]}
 */
export function linesOf(chart, bar) {
	const { app: { t }, series, look, kind } = chart;
	const values = chart.values(bar);
	const lines = series.flatMap(({ label }, n) => {
		const value = values[n];
		const isThere = kind === "bars" ? value : value !== null;
		return isThere ? [{ swatch: look.swatch(n), label, text: chart.text(value ?? 0) }] : [];
	}).reverse();
	const total = kind === "bars" && lines.length !== 1 ? [{ swatch: null, label: t("total"), text: chart.sum([bar]) }] : [];
	const past = chart.pastAt(bar);
	return [...lines, ...total, ...(past === null ? [] : [{ swatch: null, label: t("before"), text: chart.text(past) }])];
}

/**
 * @typedef {object} Pointed What is pointed at.
 * @property {number} cursor the bar, or -1
 * @property {number} dragged the bar at which the mouse went down, or the other finger is; or -1
 * @property {{start: number, span_s: number}[]} bars
 * @property {(bar: number, live?: "off" | "polite") => void} point
 * @property {(part: [from_s: number, to_s: number] | null) => void} zoom
 * @property {() => void} open shows what is behind the bar at the cursor
 */

/**
 * A mouse zooms to what it drags over, two fingers to what is between them; one finger reads out.
 * @param {SVGElement} picture
 * @param {Pointed} chart
 */
export function listen(picture, chart) {
	/** @param {PointerEvent} event */
	function barAt({ clientX }) {
		const { left, width } = picture.getBoundingClientRect();
		const size = chart.bars.length;
		return Math.min(size - 1, Math.max(0, Math.floor((clientX - left) / width * size)));
	}

	/** The bars at which fingers are. @type {Map<number, number>} */
	const fingers = new Map();

	/** @param {PointerEvent} event */
	function follow(event) {
		const bar = barAt(event);
		if (event.pointerType === "touch" && event.buttons) fingers.set(event.pointerId, bar);
		for (const [id, other] of fingers) if (id !== event.pointerId) chart.dragged = other;
		chart.point(bar);
	}

	/** @param {PointerEvent} event */
	function endDrag({ pointerType }) {
		const [from, to] = [chart.dragged, chart.cursor].sort((a, b) => a - b);
		chart.dragged = -1;
		if (from === to && pointerType !== "touch") chart.open();
		else if (from >= 0 && from < to) chart.zoom([chart.bars[from].start, chart.bars[to].start + chart.bars[to].span_s]);
	}

	picture.onpointerdown = (event) => {
		if (event.pointerType !== "touch" && event.button === 0) {
			picture.setPointerCapture(event.pointerId);
			chart.dragged = barAt(event);
		}
		follow(event);
	};
	picture.onpointermove = follow;
	picture.onpointerup = (event) => {
		fingers.clear();
		if (chart.dragged >= 0) endDrag(event);
	};
	picture.onpointercancel = () => {
		fingers.clear();
		chart.dragged = -1;
		chart.point(-1);
	};
	// What a finger has touched stays readable when it is lifted.
	picture.onpointerleave = ({ pointerType }) => {
		if (pointerType !== "touch" && chart.dragged < 0) chart.point(-1);
	};
	picture.onblur = () => chart.point(-1);
	picture.onkeydown = ({ key }) => {
		if (key === "Enter") chart.open();
		if (key === "Escape") chart.zoom(null);
		const by = { ArrowLeft: -1, ArrowRight: 1 }[key];
		const end = chart.bars.length - 1;
		// It begins at the newest bar.
		if (by) chart.point(chart.cursor < 0 ? end : Math.min(end, Math.max(0, chart.cursor + by)), "polite");
	};
}
