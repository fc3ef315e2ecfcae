// @ts-check
/** What a chart says in words: all of it in a sentence, and a bar at the cursor. */
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
