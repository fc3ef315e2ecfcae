// @ts-check
/** What a client key cost by model: which time is asked for, and what the bars of the answer are. Pure. */

const HOUR_S = 3600;
const DAY_S = 86_400;
const SECOND_MS = 1000;
/** More colours would not be told apart; the other models are one part together. */
const MOST_PARTS = 5;

/** @import { Bucket, UsageRow } from "./types.js" */
/** @typedef {"today" | "yesterday" | "7d" | "30d"} RangeName */

/** @type {RangeName[]} */
export const RANGES = ["today", "yesterday", "7d", "30d"];

/**
 * When a day began, some days after that of `now`, in ms.
 * @param {number} now
 * @param {number} days
 * @param {boolean} utc
 */
function midnight(now, days, utc) {
	const at = new Date(now);
	if (utc) return Date.UTC(at.getUTCFullYear(), at.getUTCMonth(), at.getUTCDate() + days);
	return new Date(at.getFullYear(), at.getMonth(), at.getDate() + days).getTime();
}

/**
 * From when to when, in ms; `to` is null if it goes on.
 * @param {RangeName} range
 * @param {number} now
 * @param {boolean} utc whether days are those of UTC
 */
export function spanOf(range, now, utc) {
	if (range === "today") return { from: midnight(now, 0, utc), to: null };
	if (range === "yesterday") return { from: midnight(now, -1, utc), to: midnight(now, 0, utc) };
	return { from: now - parseInt(range, 10) * DAY_S * SECOND_MS, to: null };
}

/** How long the bars are. @param {RangeName} range @returns {"hour" | "day"} */
export const intervalOf = (range) => (range === "30d" ? "day" : "hour");

/** Those that cost most come first. @param {UsageRow[]} rows */
export const dearest = (rows) => [...rows].sort((a, b) => (b.cost_usd ?? 0) - (a.cost_usd ?? 0) || b.requests - a.requests);

/**
 * The models that have a part of their own in the bars: the dearest, and `null` for the others if there are more.
 * @param {UsageRow[]} rows
 */
export function partsOf(rows) {
	const ids = dearest(rows).map(({ id }) => id ?? "");
	return ids.length > MOST_PARTS ? [...ids.slice(0, MOST_PARTS), null] : ids;
}

/**
 * A bar for each hour or day of the answer, with its parts as `m0`, `m1` and so on.
 * @param {{from: string, to: string, rows: UsageRow[]}} report
 * @param {(string | null)[]} parts
 * @param {"hour" | "day"} interval
 */
export function barsOf({ from, to, rows }, parts, interval) {
	const span_s = interval === "day" ? DAY_S : HOUR_S;
	const first = Date.parse(from) / SECOND_MS;
	const count = Math.round((Date.parse(to) / SECOND_MS - first) / span_s);
	const empty = Object.fromEntries(parts.map((_, n) => [`m${n}`, 0]));
	/** @type {Bucket[]} */
	const bars = Array.from({ length: count }, (_, n) => ({ start: first + n * span_s, span_s, ...empty }));
	for (const { id, buckets = [] } of rows) {
		const own = parts.indexOf(id ?? "");
		const key = `m${own < 0 ? parts.length - 1 : own}`;
		for (const { start, cost_usd } of buckets) {
			const bar = bars[Math.floor((Date.parse(start) / SECOND_MS - first) / span_s)];
			if (bar) bar[key] += cost_usd ?? 0;
		}
	}
	return bars;
}

/** What all of them come to. @param {UsageRow[]} rows */
export function sumOf(rows) {
	const sum = (/** @type {(row: UsageRow) => number} */ of) => rows.reduce((all, row) => all + of(row), 0);
	const priced = rows.some((row) => row.cost_usd !== null);
	return {
		requests: sum((row) => row.requests),
		input_tokens: sum((row) => row.input_tokens),
		output_tokens: sum((row) => row.output_tokens),
		cache_creation_input_tokens: sum((row) => row.cache_creation_input_tokens),
		cache_read_input_tokens: sum((row) => row.cache_read_input_tokens),
		unpriced_requests: sum((row) => row.unpriced_requests),
		cost_usd: priced || !rows.length ? sum((row) => row.cost_usd ?? 0) : null,
	};
}
