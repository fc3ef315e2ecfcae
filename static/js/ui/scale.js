// @ts-check
/** The numbers of a chart: its scale, its bars as a path, its peak as a rate. */

/** The axis has so many steps, and one label more. */
export const STEPS = 4;
/** What a step may be, times a power of ten: each reads well four times. */
const NICE = [1, 2, 3, 4, 5, 6, 8, 10];
/** The part of its place that a bar fills. */
const BAR = 0.85;

const MINUTE_S = 60;
const HOUR_S = 3600;
const DAY_S = 86_400;

/**
 * The step of an axis that reaches `most`, and `least` at any rate.
 * @param {number} most
 * @param {number} least
 */
export function niceStep(most, least) {
	const part = Math.max(most, least) / STEPS;
	const ten = 10 ** Math.floor(Math.log10(part));
	return ten * (NICE.find((n) => n * ten >= part) ?? 10);
}

/**
 * What stands at the axis, from the top down to 0.
 * @param {number} step
 */
export const ticks = (step) => Array.from({ length: STEPS + 1 }, (_, n) => (STEPS - n) * step);

/**
 * Stacked bars, as a path for each series: what is first in a stack is at the bottom.
 * @param {number[][]} stacks for each bar the numbers of all series
 * @param {number} series how many those are
 * @param {{width: number, height: number, step: number}} scale
 */
export function barPaths(stacks, series, { width, height, step }) {
	const each = width / stacks.length;
	const unit = height / STEPS / step;
	const paths = Array.from({ length: series }, () => "");
	stacks.forEach((numbers, bar) => {
		let bottom = height;
		numbers.forEach((n, at) => {
			if (n) paths[at] += `M${bar * each} ${bottom}v${-n * unit}h${each * BAR}V${bottom}z`;
			bottom -= n * unit;
		});
	});
	return paths;
}

/**
 * What a number in `span_s` seconds is in a unit that people think in: per minute, hour or day.
 * @param {number} n
 * @param {number} span_s
 */
export function rate(n, span_s) {
	const [unit, unit_s] = unitOf(span_s);
	return { unit, n: n * unit_s / span_s };
}

/** @param {number} span_s @returns {[unit: string, unit_s: number]} */
function unitOf(span_s) {
	if (span_s < HOUR_S) return ["min", MINUTE_S];
	return span_s < DAY_S ? ["h", HOUR_S] : ["day", DAY_S];
}
