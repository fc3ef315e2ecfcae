// @ts-check
/** What was used: over time, from the feed, and by whom, from the report. */
import { h, panel, setText } from "../dom.js";
import { compact, money, number, share } from "../format.js";
import { hashOf } from "../requests.js";
import { spark } from "../ui/cells.js";
import { bars } from "../ui/chart.js";
import { press } from "../ui/dialog.js";
import { sheet } from "../ui/sheet.js";
import { OUTCOMES } from "./overview.js";

const HOUR_MS = 3_600_000;
const RELOAD_MS = 60_000;
const MOST_ROWS = 10;
const TOKENS = /** @type {const} */ (
	["input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"]);
const CHARTS = /** @type {const} */ ([
	{ what: "requests", keys: OUTCOMES, unit: number },
	{ what: "tokens", keys: TOKENS, unit: number },
	{ what: "cost_usd", keys: ["cost_usd"], unit: money },
	{ what: "turns", keys: ["turns_stayed", "turns_moved"], unit: number },
]);
const COLUMNS = /** @type {const} */ (["requests", "errors", ...TOKENS, "cache_read_share", "cost_usd"]);
const GROUPS = /** @type {const} */ (["account", "token", "model"]);
const FORMATS = ["csv", "json"];

/** @import { App, Bucket, Mount } from "../types.js" */
/** @import { Line } from "../ui/sheet.js" */

/** `interval` is that of the export. @type {Record<RangeName, {hours: number, interval: string}>} */
const RANGES = {
	"1h": { hours: 1, interval: "minute" },
	"24h": { hours: 24, interval: "hour" },
	"7d": { hours: 168, interval: "hour" },
	"30d": { hours: 720, interval: "day" },
};
/** @typedef {"1h" | "24h" | "7d" | "30d"} RangeName */
const NAMES = /** @type {RangeName[]} */ (Object.keys(RANGES));

/** @type {Mount} */
export default function mount(root, app) {
	const { store, t } = app;
	const asked = app.query().get("range");
	const range = NAMES.find((name) => name === asked) ?? "24h";
	const topic = `usage:${range}`;
	/** Shows what failed in the time of a bar, or else all. @param {Bucket} bar */
	const failures = (bar) => {
		const failed = OUTCOMES.some((key) => key !== "ok" && bar[key]);
		app.go(hashOf(bar, failed ? { status: "failed" } : {}));
	};
	const charts = CHARTS.map(({ what, keys, unit }) => {
		const series = keys.map((key) => ({ key, label: t(`u_${key}`) }));
		const label = `${t(`u_${what}`)}, ${t(`u_${range}`)}`;
		const chart = bars(app, { label, text: unit, series, open: what === "requests" ? failures : undefined });
		return { ...chart, title: t(`u_${what}`) };
	});
	const empty = h("p.note", { hidden: true }, t("u_empty"));
	const report = reportOf(app, range);
	report.load();
	const cache = cacheOf(app);
	root.append(rangeChips(app, range), empty, cache.el, ...charts.map(({ title, el }) => panel(title, el)), report.el);
	return {
		topics: [topic],
		tick(now) {
			if (app.online() && now - report.loadedAt() > RELOAD_MS) report.load();
		},
		patch(dirty) {
			if (!dirty.has(topic) || !store.ready(topic)) return;
			const buckets = [...store.items(topic).values()];
			for (const chart of charts) chart.patch(buckets);
			cache.patch(buckets);
			empty.hidden = buckets.some((bucket) => OUTCOMES.some((key) => bucket[key]));
		},
	};
}

/** How much of the input prompt caches gave, in all and over time. @param {App} app */
function cacheOf({ t }) {
	const line = spark();
	const text = h("span");
	const el = h("p.row.cache", { hidden: true }, line.el, text);
	/** Input tokens from the cache, and all of them. @param {Bucket[]} buckets */
	const sums = (buckets) => {
		const of = (/** @type {string} */ key) => buckets.reduce((sum, bucket) => sum + bucket[key], 0);
		const cached = of("cache_read_input_tokens");
		return { cached, all: cached + of("input_tokens") + of("cache_creation_input_tokens") };
	};
	return {
		el,
		/** @param {Bucket[]} buckets */
		patch(buckets) {
			const { cached, all } = sums(buckets);
			el.hidden = !all;
			setText(text, t("u_cache", { share: share(cached / all) }));
			line.patch(buckets.map((bucket) => sums([bucket])).filter((each) => each.all).map((each) => each.cached / each.all));
		},
	};
}

/**
 * @param {App} app
 * @param {RangeName} range the one that is shown
 */
function rangeChips({ t, go }, range) {
	const chips = NAMES.map((name) =>
		press({ label: t(`u_${name}`), "aria-pressed": `${name === range}`, run: () => go(`#/usage?range=${name}`) }));
	return h("div.chips", { role: "group", "aria-label": t("u_range") }, chips);
}

/**
 * The top ten by account, client key or model, and links to all.
 * @param {App} app
 * @param {RangeName} range
 */
function reportOf(app, range) {
	const { t } = app;
	const { hours, interval } = RANGES[range];
	const asked = app.query().get("by");
	const by = h("select", { "aria-label": t("u_top") }, GROUPS.map((value) =>
		h("option", { value, selected: value === asked }, t(`u_by_${value}`))));
	const links = FORMATS.map((format) =>
		({ format, el: h("a", { download: `usage.${format}` }, format.toUpperCase()) }));
	const top = sheet(t("u_top"), [t("name"), ...COLUMNS.map((key) => t(`u_${key}`))]);
	const note = h("p", { role: "alert" });
	let loadedAt = 0;

	async function load() {
		loadedAt = app.now();
		const from = new Date(loadedAt - hours * HOUR_MS).toISOString();
		const path = `api/admin/usage?by=${by.value}&from=${from}`;
		for (const { format, el } of links) el.href = `${path}&interval=${interval}&format=${format}`;
		try {
			const { rows } = await app.api("GET", path);
			top.fill(mostUsed(rows).map((row) => /** @type {Line} */ ([row.id, texts(row)])));
			note.replaceChildren();
		} catch {
			note.replaceChildren(t("u_failed"), " ", press({ label: t("retry"), run: load }));
		}
	}
	by.onchange = () => {
		app.setQuery({ by: by.value });
		load();
	};
	const controls = h("div.row", by, t("export"), links.map(({ el }) => el));
	return { el: panel(t("u_top"), controls, top.el, note), load, loadedAt: () => loadedAt };
}

/** @param {any[]} rows */
const mostUsed = (rows) => rows.sort((a, b) => b.requests - a.requests).slice(0, MOST_ROWS);

/** @param {any} row */
const texts = (row) => [row.name ?? "–", number(row.requests), number(row.errors),
	...TOKENS.map((key) => compact(row[key])), share(row.cache_read_share), money(row.cost_usd, row.unpriced_requests)];
