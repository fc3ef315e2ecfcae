// @ts-check
/** What usage comes to: the one definition of requests, errors, tokens and rates for all views. Pure. */

/** What came of requests: fields of the usage buckets, and texts with `u_` before. */
export const OUTCOMES = /** @type {const} */ (
	["ok", "aborted", "client_error", "limited", "refused", "upstream_error"]);
/** As on the server, requests that were cut are no errors. */
const ERRORS = /** @type {const} */ (["client_error", "limited", "refused", "upstream_error"]);
/** What one account failed at, in tries after which another may have answered: a failure with TRY before. */
export const TRY = "try_";
export const FAILURES = /** @type {const} */ (
	["try_client_error", "try_limited", "try_refused", "try_credential", "try_upstream_error"]);
/** What is read, from the cache or not, and what is written. */
export const TOKENS = /** @type {const} */ (
	["cache_read_input_tokens", "cache_creation_input_tokens", "input_tokens", "output_tokens"]);

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

/** @import { Bucket } from "./types.js" */
/** A bucket, a request, or what was used in a day. @typedef {any} Used */

/**
 * @param {Used} usage
 * @param {readonly string[]} fields
 */
const sum = (usage, fields) => fields.reduce((total, field) => total + (usage[field] ?? 0), 0);

/** @param {Bucket} bucket */
export const requestsOf = (bucket) => sum(bucket, OUTCOMES);

/** @param {Bucket} bucket */
export const errorsOf = (bucket) => sum(bucket, ERRORS);

/** @param {Bucket} bucket */
export const failuresOf = (bucket) => sum(bucket, FAILURES);

/** All that was read, from the cache as well. @param {Used} usage */
export const tokensIn = (usage) => sum(usage, TOKENS.slice(0, 3));

/** All that was read and written. @param {Used} usage */
export const tokensOf = (usage) => sum(usage, TOKENS);

/** The part of the input that came from the cache; null if there was none. @param {Used} usage */
export const fromCache = (usage) => {
	const all = tokensIn(usage);
	return all ? (usage.cache_read_input_tokens ?? 0) / all : null;
};

/** The mean time to the first byte in ms; null if none came. @param {Bucket} bucket */
export const firstByte = ({ ttfb_ms: all, ttfb_count: n }) => (n ? all / n : null);

/** The sums of all of them. @param {Bucket[]} buckets @returns {Bucket} */
export function added(buckets) {
	/** @type {Record<string, number>} */
	const sums = {};
	for (const bucket of buckets) {
		for (const [name, n] of Object.entries(bucket)) sums[name] = (sums[name] ?? 0) + n;
	}
	return { ...sums, start: buckets[0]?.start ?? 0, span_s: sums.span_s ?? 0 };
}

/**
 * Buckets of the columns that the server tells.
 * @param {Record<string, any>} columns
 * @param {number} from_s
 * @param {number} span_s
 * @returns {Bucket[]}
 */
export function bucketsOf(columns, from_s, span_s) {
	const named = Object.entries(columns).filter(([, column]) => Array.isArray(column));
	const size = named[0]?.[1].length ?? 0;
	return Array.from({ length: size }, (_, at) => ({
		...Object.fromEntries(named.map(([name, column]) => [name, column[at]])),
		start: from_s + at * span_s,
		span_s,
	}));
}

/**
 * The shortest interval at which usage is kept back to `from`, in ms: see `proxy/usage/spans.py`.
 * @param {number} from
 * @param {number} now
 */
export function intervalKept(from, now) {
	if (now - from <= 2 * HOUR_MS) return "minute";
	return now - from <= 8 * DAY_MS ? "hour" : "day";
}
