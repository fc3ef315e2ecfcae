// @ts-check
/** The numbers of a chart: its scales, its paths, its ticks, and rates. Pure. */

/** The axis has so many steps, and one label more. */
export const STEPS = 4;
/** What a step may be, times a power of ten: each reads well four times. */
const NICE = [1, 2, 3, 4, 5, 6, 8, 10];
/** The part of its place that a bar fills. */
const BAR = 0.85;

const MINUTE_S = 60;
const HOUR_S = 3600;
const DAY_S = 86_400;
const SECOND_MS = 1000;
/** What people count by. @type {["min" | "h" | "day", number][]} */
const UNITS = [["min", MINUTE_S], ["h", HOUR_S], ["day", DAY_S]];
/** From one label of the time to the next. */
const TIMES = [
	...[1, 2, 5, 10, 15, 20, 30].map((n) => n * MINUTE_S),
	...[1, 2, 3, 4, 6, 8, 12].map((n) => n * HOUR_S),
	...[1, 2, 3, 5, 10].map((n) => n * DAY_S),
];
/** All zones are so many minutes away from each other, or more. */
const ZONES_S = 15 * MINUTE_S;

/** @typedef {{width: number, height: number, step: number}} Scale */
/** A label of the time: `midnight` is one of a day. @typedef {{at: number, midnight: boolean}} Tick */

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
 * @param {Scale} scale
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
 * A step line through what begins at `first` and is `each` wide; where nothing is known it has a gap.
 * @param {(number | null)[]} points
 * @param {Scale & {first?: number, each?: number}} scale
 */
export function stepPath(points, { width, height, step, first = 0, each = width / points.length }) {
	let path = "";
	let before = /** @type {number | null} */ (null);
	points.forEach((point, at) => {
		const [left, right] = [at, at + 1].map((n) => Math.min(width, Math.max(0, first + n * each)));
		const shown = right > left ? point : null;
		if (shown !== null) {
			const y = (height * (1 - Math.min(1, shown / STEPS / step))).toFixed(1);
			path += `${before === null ? `M${left.toFixed(1)} ${y}` : `V${y}`}H${right.toFixed(1)}`;
		}
		before = shown;
	});
	return path;
}

/**
 * What a number in `span_s` seconds is in a unit that people think in: per minute, hour or day. That is the shortest
 * one in which it is 1 or more, and not shorter than the span. `per` is what the number was multiplied by.
 * @param {number} n
 * @param {number} span_s
 */
export function rate(n, span_s) {
	const units = UNITS.slice(span_s < HOUR_S ? 0 : span_s < DAY_S ? 1 : 2);
	const [unit, unit_s] = units.find((each) => n * each[1] >= span_s) ?? units[n ? units.length - 1 : 0];
	const per = unit_s / span_s;
	return { unit, n: n * per, per };
}

/** Seconds that the local time is ahead of UTC. @param {number} at */
const localAhead = (at) => -MINUTE_S * new Date(at * SECOND_MS).getTimezoneOffset();

/**
 * Whole minutes, hours or midnights between two times, at most `most` of them.
 * @param {number} from in seconds since the epoch
 * @param {number} to
 * @param {number} most
 * @param {(at: number) => number} ahead how far the time that is shown is ahead of UTC, in seconds
 * @returns {Tick[]}
 */
export function timeTicks(from, to, most, ahead = localAhead) {
	const step = TIMES.find((each) => (to - from) / each <= most) ?? TIMES[TIMES.length - 1];
	// Each is looked at, since clocks are changed in the midst of it.
	const grid = step % ZONES_S ? MINUTE_S : ZONES_S;
	const found = [];
	for (let at = Math.ceil(from / grid) * grid; at <= to; at += grid) {
		const shown = at + ahead(at);
		if (shown % step === 0) found.push({ at, midnight: shown % DAY_S === 0 });
	}
	return found;
}
