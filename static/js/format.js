/** Times (RFC 3339, or ms) and numbers as text; `now` is the server's clock in ms. */

const grouped = new Intl.NumberFormat("en");
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

export const ms = (at) => (typeof at === "string" ? Date.parse(at) : at);

const known = (text) => (n) => (n == null ? "–" : text(n));

/** 12,430 */
export const number = known(grouped.format);

/** 12.4K */
export const compact = known(short.format);

/** $1.23, and $0.0042 where cents say nothing */
export const money = known((n) => `$${n && n < 0.1 ? n.toPrecision(2) : n.toFixed(2)}`);

/** Two units: 2d 04h, 3h 12m, 12m 05s; 42s */
export function duration(span_ms) {
	const s = Math.max(0, Math.floor(span_ms / 1000));
	const two = (big, big_s, small, small_s) =>
		`${Math.floor(s / big_s)}${big} ${String(Math.floor((s % big_s) / small_s)).padStart(2, "0")}${small}`;
	if (s < 60) return `${s}s`;
	if (s < 3600) return two("m", 60, "s", 1);
	return s < 86_400 ? two("h", 3600, "m", 60) : two("d", 86_400, "h", 3600);
}

/** The largest unit: 2d, 3h, 12m, 42s */
export const span = (span_ms) => duration(span_ms).replace(/ .*/, "");

/** "12m ago" */
export function ago(at, now) {
	if (at == null) return "–";
	return now - ms(at) < 5000 ? "just now" : `${span(now - ms(at))} ago`;
}

/** "3h 12m"; past due "expired 2m ago" or "resetting…", as `past` says */
export function until(at, now, past = "expired") {
	if (at == null) return "–";
	if (ms(at) > now) return duration(ms(at) - now);
	return past === "resetting" ? "resetting…" : `expired ${span(now - ms(at))} ago`;
}

/** "14:02:11", with `zone` "14:02:11 UTC", and the day where it is not that of `now` */
export function clock(at, { utc = false, zone = false, seconds = true, now = NaN } = {}) {
	if (at == null) return "–";
	const timeZone = utc ? "UTC" : undefined;
	const day = (time) => format({ timeZone, dateStyle: "short" }, time);
	return format({
		timeZone, hour: "2-digit", minute: "2-digit",
		...(seconds && { second: "2-digit" }), ...(zone && { timeZoneName: "short" }),
		...(now && day(ms(at)) !== day(now) && { day: "numeric", month: "short" }),
	}, ms(at));
}

const formatters = new Map(); // one is dear to make

function format(options, time) {
	const key = JSON.stringify(options);
	if (!formatters.has(key)) formatters.set(key, new Intl.DateTimeFormat("en-GB", options));
	return formatters.get(key).format(time);
}
