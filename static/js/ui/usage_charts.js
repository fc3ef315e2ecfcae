// @ts-check
/** Requests, tokens, cost, first byte and cache over time: of all, or of one, or split; with the time before. */
import { h, panel } from "../dom.js";
import { compact, money, ms, took } from "../format.js";
import { hashOf } from "../requests.js";
import {
	FAILURES, OUTCOMES, TOKENS, TRY, added, bucketsOf, errorsOf, failuresOf, firstByte, fromCache, requestsOf, tokensIn, tokensOf,
} from "../usage.js";
import { bars } from "./chart.js";
import { notLoaded, press } from "./dialog.js";
import { perCent } from "./quota.js";

const RELOAD_MS = 60_000;
/** What comes often is asked for again no sooner than after this. */
const SOON_MS = 2000;
const SECOND_MS = 1000;
const RANGES = /** @type {const} */ (["1h", "24h", "7d", "30d"]);
const LEAST_USD = 0.04;
/** The first byte's axis reaches 100 ms at least. */
const LEAST_MS = 100;
/** `rest` is the class of all others of a split. */
const REST = "rest";

/** @import { App, Bucket, TextKey } from "../types.js" */
/** @import { Series } from "./chart_parts.js" */
/** @import { Spec } from "./chart.js" */

/** A time on the axis, and what was used in it by each of the split. @typedef
 * {{start: number, span_s: number, parts: Bucket[]}} Bar */
/** @typedef {"account" | "token" | "model"} By */
/** `range` ends now, else it is from `from` to `to`. `id`: only that of `by`; without, a split by it.
 * @typedef {{range?: string, from?: string, to?: string, by?: By, id?: string}} Asked */
/** `of` is what is split; without a split `fields` are shown. @typedef {{what: TextKey, fields?: readonly string[],
 *	of: (bucket: Bucket) => number | null, spec: Partial<Spec>, splitOnly?: boolean, ofOne?: boolean}} Metric */

/** @param {Bar[]} shown */
const total = (shown) => added(shown.flatMap(({ parts }) => parts));

/** @type {(app: App) => Metric[]} */
const metrics = ({ t }) => [
	{ what: "u_requests", fields: OUTCOMES, of: requestsOf, spec: {} },
	{ what: "u_errors", of: errorsOf, spec: {}, splitOnly: true },
	{ what: "u_tries", fields: FAILURES, of: failuresOf, spec: {}, ofOne: true },
	{ what: "u_tokens", fields: TOKENS, of: tokensOf, spec: {} },
	{
		what: "u_cost_usd",
		of: (bucket) => bucket.cost_usd,
		spec: {
			text: money,
			least: LEAST_USD,
			sum: (shown, usd) => money(usd, total(shown).unpriced_requests),
		},
	},
	{
		what: "u_ttfb",
		of: firstByte,
		spec: {
			kind: "lines",
			text: took,
			least: LEAST_MS,
			sentence: (shown) => t("u_ttfb_told", { mean: took(firstByte(total(shown))) }),
		},
	},
	{
		what: "u_cache",
		of: fromCache,
		spec: {
			kind: "lines",
			text: perCent,
			step: 0.25,
			sentence(shown) {
				const sums = total(shown);
				const part = fromCache(sums);
				return part === null ? "–" : t("u_cache_told", { part: perCent(part), n: compact(tokensIn(sums)) });
			},
		},
	},
];

/**
 * `zoom` is called with what somebody drags over in one of them, `loaded` with the times of what is shown; `shown` are
 * those that are wanted, all by default.
 * @typedef {{label: (what: string) => string, zoom: (from: string, to: string) => void,
 *	loaded?: (from: string, to: string) => void, shown?: TextKey[]}} Options
 */

/** @param {number} s */
const time = (s) => new Date(s * SECOND_MS).toISOString();

export class UsageCharts {
	/**
	 * @param {App} app
	 * @param {Options} options
	 */
	constructor(app, options) {
		const { t } = app;
		this.app = app;
		this.options = options;
		this.note = h("p", { role: "alert" });
		this.empty = h("p.note", { hidden: true }, t("u_empty"));
		/** @type {Asked} */
		this.asked = {};
		/** @type {any} */
		this.answer = null;
		this.askedAt = 0;
		this.stale = false;
		this.charts = metrics(app).filter(({ what, ofOne }) => options.shown?.includes(what) ?? !ofOne)
			.map((metric) => this.make(metric));
		this.els = [this.empty, this.note, ...this.charts.map(({ el }) => el)];
	}

	/** @param {Metric} metric */
	make(metric) {
		const title = this.app.t(metric.what);
		const leads = ["u_requests", "u_errors", "u_tries"].includes(metric.what);
		const chart = bars(this.app, {
			label: () => this.options.label(title),
			...metric.spec,
			open: leads ? (bar, only) => this.open(metric, bar, only) : undefined,
			zoom: (from, to) => this.options.zoom(time(from), time(to)),
		});
		const el = panel(title, chart.el);
		if (metric.what === "u_requests") el.classList.add("first");
		return { metric, chart, el };
	}

	/** Whether there is more than one of what it is split by. */
	isSplit() {
		return Boolean(this.asked.by && !this.asked.id);
	}

	/** The topic of the feed that tells all of it, if there is one. */
	topic() {
		const { range, by } = this.asked;
		return range && !by ? `usage:${range}` : "";
	}

	/** Whether the feed tells of it, now. */
	isFed() {
		return this.topic() !== "" && this.app.store.ready(this.topic());
	}

	/**
	 * Shows the requests of a bar: those of the outcome that is isolated, or what failed of them, if there is such.
	 * @param {Metric} metric
	 * @param {Bar} bar
	 * @param {number} only the part of a split, or the outcome; or -1
	 */
	open({ fields, ofOne }, bar, only) {
		const { by, id } = this.asked;
		const failed = bar.parts.some((bucket) => errorsOf(bucket) || bucket.aborted);
		const field = by && /** @type {const} */ ({ account: "account", token: "key", model: "model" })[by];
		const one = id ?? (this.isSplit() && this.answer?.split[only]?.id);
		const outcome = this.isSplit() ? "" : fields?.[only];
		const status = outcome || (failed && "failed");
		const wanted = ofOne ? { failure: outcome?.replace(TRY, "") || "any" } : status && { status };
		this.app.go(hashOf(bar, { ...wanted, ...(field && one && { [field]: one }) }));
	}

	/** @returns {Bar[]} */
	bars() {
		const { answer, app } = this;
		if (this.topic()) {
			return [...app.store.items(this.topic()).values()].sort((a, b) => a.start - b.start)
				.map((bucket) => ({ ...bucket, parts: [bucket] }));
		}
		if (!answer) return [];
		const from = ms(answer.from) / SECOND_MS;
		const [first, ...others] = [...answer.split, ...(answer.rest ? [answer.rest] : [])]
			.map((each) => bucketsOf(each, from, answer.span_seconds));
		return (first ?? []).map(({ start, span_s }, at) =>
			({ start, span_s, parts: [first[at], ...others.map((column) => column[at])] }));
	}

	/** @param {Metric} metric @returns {Series[]} */
	series({ fields, of, what }) {
		const { app: { t }, answer } = this;
		/** @type {(key: string, label: string, value: (bar: Bar) => number | null) => Series} */
		const one = (key, label, value) => ({ key, label, of: value });
		if (this.isSplit()) {
			/** @type {{name: string | null}[]} */
			const split = answer?.split ?? [];
			const named = split.map(({ name }, n) => one(`s-${n}`, name ?? t("nobody"), ({ parts }) => of(parts[n])));
			return answer?.rest ? [...named, one(REST, t("others"), ({ parts }) => of(parts[split.length]))] : named;
		}
		const each = fields?.map((key) =>
			one(key, t(/** @type {TextKey} */ (`u_${key}`)), ({ parts: [bucket] }) => bucket[key]));
		return each ?? [one("s-0", t(what), ({ parts: [bucket] }) => of(bucket))];
	}

	/** The bars of the time before, moved to those of now. @param {Metric} metric */
	before({ of }) {
		const { answer } = this;
		if (!answer?.before) return undefined;
		const from = ms(answer.before.from) + ms(answer.to) - ms(answer.from);
		const moved = bucketsOf(answer.before, from / SECOND_MS, answer.before.span_seconds)
			.map((bucket) => ({ start: bucket.start, span_s: bucket.span_s, parts: [bucket] }));
		return { bars: moved, of: this.isSplit() ? (/** @type {Bar} */ { parts: [bucket] }) => of(bucket) : undefined };
	}

	draw() {
		const all = this.bars();
		for (const { metric, chart, el } of this.charts) {
			el.hidden = Boolean(metric.splitOnly) && !this.isSplit();
			chart.patch(all, { series: this.series(metric), before: this.before(metric) });
		}
		this.empty.hidden = !all.length || all.some(({ parts }) => parts.some(requestsOf));
	}

	async load() {
		const { app, asked, note } = this;
		this.askedAt = app.now();
		this.stale = false;
		const query = new URLSearchParams(Object.entries(asked).filter(([, value]) => value));
		try {
			const found = await app.api("GET", `api/admin/usage/chart?${query}`);
			if (asked !== this.asked) return;
			this.answer = found;
			note.replaceChildren();
			this.options.loaded?.(found.from, found.to);
			this.draw();
		} catch (error) {
			if (asked === this.asked && (this.options.loaded || !this.isFed())) notLoaded(app, note, error, () => this.load());
		}
	}

	/** @param {Asked} asked */
	show(asked) {
		this.asked = asked;
		this.answer = null;
		this.draw();
		return this.load();
	}

	/** Something has been used. */
	touch() {
		this.stale = true;
		if (this.isFed()) this.draw();
	}

	/** @param {number} now */
	tick(now) {
		const { asked, answer, app } = this;
		const isPast = asked.to && answer && ms(asked.to) < now - SOON_MS;
		if (!app.online() || isPast) return;
		if (now - this.askedAt > (this.stale && !this.isFed() ? SOON_MS : RELOAD_MS)) this.load();
	}
}

/**
 * What one account or client key was used for, with a choice of the range.
 * @param {App} app
 * @param {"account" | "token"} by
 * @param {string} id
 * @param {TextKey[]} shown which charts
 */
export function useOf(app, by, id, shown) {
	const { t, clock } = app;
	let label = "";
	const chips = RANGES.map((range) => press({ label: t(`u_${range}`), run: () => choose(range) }));
	const out = press({ label: t("zoom_out"), run: () => choose("24h") });
	const charts = new UsageCharts(app, { label: (what) => `${what}, ${label}`, zoom, shown });

	/** @param {typeof RANGES[number] | null} range */
	function mark(range) {
		chips.forEach((chip, n) => chip.setAttribute("aria-pressed", String(RANGES[n] === range)));
		out.hidden = range !== null;
	}

	/** @param {string} from @param {string} to */
	function zoom(from, to) {
		mark(null);
		label = `${clock(from, { seconds: false, zone: false })} – ${clock(to, { seconds: false })}`;
		charts.show({ from, to, by, id });
	}

	/** @param {typeof RANGES[number]} range */
	function choose(range) {
		mark(range);
		label = t(`u_${range}`);
		return charts.show({ range, by, id });
	}

	choose("24h");
	const el = h("div.use", h("div.row", h("div.chips", { role: "group", "aria-label": t("u_range") }, chips), out),
		charts.els);
	return { el, touch: () => charts.touch(), tick: (/** @type {number} */ now) => charts.tick(now) };
}
