// @ts-check
/** Times (RFC 3339, or ms) and numbers as text; `now` is the server's clock in ms. */

const SECOND_MS = 1000;
const MINUTE_S = 60;
const HOUR_S = 3600;
const DAY_S = 86_400;
const JUST_NOW_MS = 5000;
/** Below this, cents say nothing. */
const SMALL_USD = 0.1;
const NOTHING = "–";
/** Labels of an axis have at most so many digits, and few enough to be told apart. */
const AXIS_DIGITS = 2;

/** @typedef {string | number | null | undefined} Moment */

const grouped = new Intl.NumberFormat("en");
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

/** @param {Moment} at */
export const ms = (at) => (typeof at === "string" ? Date.parse(at) : Number(at));

/** @param {Moment} at */
export const isTime = (at) => at != null && !Number.isNaN(ms(at));

const cents = new Intl.NumberFormat("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const axis = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: AXIS_DIGITS });

/** 0.06, 1.2K @param {number} n */
export const axisText = (n) => axis.format(n);

/** 12,430 @param {number | null | undefined} n */
export const number = (n) => (n == null ? NOTHING : grouped.format(n));

/** 12.4K @param {number | null | undefined} n */
export const compact = (n) => (n == null ? NOTHING : short.format(n));

/** 97.4 % @param {number | null | undefined} part of 1 */
export const share = (part) => (part == null ? NOTHING : `${Number((100 * part).toFixed(1))} %`);

/**
 * $1.23, and $0.0042 where cents say nothing; null is what the server says of what has no price.
 * @param {number | null | undefined} usd
 * @param {number} [unpriced] how many requests are not in it
 */
export function money(usd, unpriced) {
	if (usd === undefined) return NOTHING;
	if (usd === null) return "unpriced";
	const text = `$${usd && usd < SMALL_USD ? usd.toPrecision(2) : cents.format(usd)}`;
	return unpriced ? `${text} + ${number(unpriced)} unpriced` : text;
}

/** "1.24 s", "320 ms" @param {number | null} time_ms */
export function took(time_ms) {
	if (time_ms === null) return NOTHING;
	return time_ms < SECOND_MS ? `${number(Math.round(time_ms))} ms` : `${(time_ms / SECOND_MS).toFixed(2)} s`;
}

/** "3" and "h" of 3 hours and some minutes, "05" and "m" of the rest. @param {number} span_ms */
function units(span_ms) {
	const s = Math.max(0, Math.floor(span_ms / SECOND_MS));
	/** @type {(big: string, big_s: number, small: string, small_s: number) => string[]} */
	const split = (big, big_s, small, small_s) => {
		const rest = Math.floor((s % big_s) / small_s);
		return [`${Math.floor(s / big_s)}${big}`, `${String(rest).padStart(2, "0")}${small}`];
	};
	if (s < MINUTE_S) return [`${s}s`];
	if (s < HOUR_S) return split("m", MINUTE_S, "s", 1);
	if (s < DAY_S) return split("h", HOUR_S, "m", MINUTE_S);
	return split("d", DAY_S, "h", HOUR_S);
}

/** Two units: 2d 04h, 3h 12m, 12m 05s; 42s. @param {number} span_ms */
export const duration = (span_ms) => units(span_ms).join(" ");

/** The largest unit: 2d, 3h, 12m, 42s. @param {number} span_ms */
export const span = (span_ms) => units(span_ms)[0];

/**
 * "12m ago"
 * @param {Moment} at
 * @param {number} now
 */
export function ago(at, now) {
	if (at == null) return NOTHING;
	const past_ms = now - ms(at);
	return past_ms < JUST_NOW_MS ? "just now" : `${span(past_ms)} ago`;
}

/**
 * "3h 12m"; past due "expired 2m ago" or "resetting…", as `past` says.
 * @param {Moment} at
 * @param {number} now
 * @param {"expired" | "resetting"} past
 */
export function until(at, now, past = "expired") {
	if (at == null) return NOTHING;
	if (ms(at) > now) return duration(ms(at) - now);
	return past === "resetting" ? "resetting…" : `expired ${span(now - ms(at))} ago`;
}

/**
 * "14:02:11", with `zone` "14:02:11 UTC", and the day if it is not that of `now`, the year too; a dash for what is no time.
 * @param {Moment} at
 * @param {{utc?: boolean, zone?: boolean, seconds?: boolean, now?: number}} options
 */
export function clock(at, { utc = false, zone = false, seconds = true, now = NaN } = {}) {
	if (!isTime(at)) return NOTHING;
	const timeZone = utc ? "UTC" : undefined;
	/** @type {Intl.DateTimeFormatOptions} */
	const options = { timeZone, hour: "2-digit", minute: "2-digit" };
	if (seconds) options.second = "2-digit";
	if (zone) options.timeZoneName = "short";
	const day = (/** @type {number} */ time) => format({ timeZone, dateStyle: "short" }, time);
	if (now && day(ms(at)) !== day(now)) {
		options.day = "numeric";
		options.month = "short";
		if (day(ms(at)).slice(-4) !== day(now).slice(-4)) options.year = "numeric";
	}
	return format(options, ms(at));
}

/** "Sunday 29 November 2026" @param {string} at @param {boolean} utc */
export const day = (at, utc) =>
	format({ timeZone: utc ? "UTC" : undefined, weekday: "long", day: "numeric", month: "long", year: "numeric" }, ms(at));

/** "29 Nov" @param {number} at @param {boolean} utc */
export const dayMonth = (at, utc) => format({ timeZone: utc ? "UTC" : undefined, day: "numeric", month: "short" }, at);

/**
 * The text of an event, its times as `clock` shows them.
 * @param {{text: string, parts?: (string | {time: string})[]}} event
 * @param {(at: string) => string} clock
 */
export const sentence = ({ text, parts }, clock) =>
	parts?.map((part) => (typeof part === "string" ? part : clock(part.time))).join("") ?? text;

const TIME = /\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z/g;

/**
 * A reason that the server gives, its times as `clock` shows them.
 * @param {string} text
 * @param {(at: string) => string} clock
 */
export const timed = (text, clock) => text.replace(TIME, (at) => clock(at));

/** By their options: one takes long to make. @type {Map<string, Intl.DateTimeFormat>} */
const formatters = new Map();

/**
 * @param {Intl.DateTimeFormatOptions} options
 * @param {number} time
 */
function format(options, time) {
	const key = JSON.stringify(options);
	const formatter = formatters.get(key) ?? new Intl.DateTimeFormat("en-GB", options);
	formatters.set(key, formatter);
	return formatter.format(time);
}
