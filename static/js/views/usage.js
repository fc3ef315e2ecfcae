// @ts-check
/** What was used: over time, of all or split, and by whom. */
import { h, panel } from "../dom.js";
import { compact, isTime, money, number } from "../format.js";
import { press } from "../ui/dialog.js";
import { perCent } from "../ui/quota.js";
import { sheet } from "../ui/sheet.js";
import { UsageCharts } from "../ui/usage_charts.js";
import { fromCache, tokensIn } from "../usage.js";

const MOST_ROWS = 10;
const SPLITS = /** @type {const} */ (["account", "token", "model"]);
const FORMATS = ["csv", "json"];
/** The interval of the export of each range. */
const RANGES = { "1h": "minute", "24h": "hour", "7d": "hour", "30d": "day" };
const HEADS = /** @type {const} */ (
	["requests", "errors", "tokens_in", "from_cache", "tokens_out", "cost_usd"]);
/** Longer than that, minutes are not kept. */
const HOURS_MS = 7_200_000;

/** @import { App, Mount, Translate } from "../types.js" */
/** @import { Line } from "../ui/sheet.js" */

/** @typedef {keyof typeof RANGES} RangeName */
const NAMES = /** @type {RangeName[]} */ (Object.keys(RANGES));

/** @type {Mount} */
export default function mount(root, app) {
	const { t } = app;
	const query = app.query();
	const [from, to] = [query.get("from") ?? "", query.get("to") ?? ""];
	const isPart = isTime(from) && isTime(to);
	const range = NAMES.find((name) => name === query.get("range")) ?? "24h";
	const by = SPLITS.find((name) => name === query.get("by"));
	/** Shows the same in another way. @param {Record<string, string>} changes */
	const turn = (changes) => {
		const all = { range, by: by ?? "", ...(isPart && { from, to }), ...changes };
		app.go(`#/usage?${new URLSearchParams(Object.entries(all).filter(([, value]) => value))}`);
	};
	const report = reportOf(app, by ?? "account", isPart ? "hour" : RANGES[range]);
	const charts = new UsageCharts(app, {
		label: (what) => `${what}, ${isPart ? spanOf(app, from, to) : t(`u_${range}`)}`,
		zoom: (start, end) => turn({ from: start, to: end }),
		loaded: report.load,
	});
	const out = isPart && press({ label: t("zoom_out"), run: () => turn({ from: "", to: "" }) });
	const tools = h("div.row.tools", rangeChips(t, isPart ? null : range, turn), splitControl(t, by, turn), out);
	root.append(tools, h("div.use", charts.els), report.el);
	charts.show({ ...(isPart ? { from, to } : { range }), by });
	const topic = `usage:${range}`;
	return {
		topics: [topic],
		tick: (now) => charts.tick(now),
		patch(dirty) {
			if (dirty.has(topic)) charts.touch();
		},
	};
}

/** @param {App} app @param {string} from @param {string} to */
const spanOf = ({ clock }, from, to) =>
	`${clock(from, { seconds: false, zone: false })} – ${clock(to, { seconds: false })}`;

/**
 * @param {Translate} t
 * @param {RangeName | null} range the one that is shown
 * @param {(changes: Record<string, string>) => void} turn
 */
function rangeChips(t, range, turn) {
	const chips = NAMES.map((name) => press({ label: t(`u_${name}`), "aria-pressed": `${name === range}`,
		run: () => turn({ range: name, from: "", to: "" }) }));
	return h("div.chips", { role: "group", "aria-label": t("u_range") }, chips);
}

/**
 * @param {Translate} t
 * @param {string | undefined} by
 * @param {(changes: Record<string, string>) => void} turn
 */
function splitControl(t, by, turn) {
	const select = h("select", { "aria-label": t("u_split") }, h("option", { value: "" }, t("u_by_none")),
		SPLITS.map((value) => h("option", { value, selected: value === by }, t(`u_by_${value}`))));
	select.onchange = () => turn({ by: select.value });
	return select;
}

/**
 * The top ten by account, client key or model in the time of the charts, and links to all.
 * @param {App} app
 * @param {typeof SPLITS[number]} by
 * @param {string} interval
 */
function reportOf(app, by, interval) {
	const { t } = app;
	const links = FORMATS.map((format) =>
		({ format, el: h("a", { download: `usage.${format}` }, format.toUpperCase()) }));
	const title = `${t("u_top")} ${t(`u_by_${by}`)}`;
	const top = sheet(title, [t("name"), ...HEADS.map((key) => t(`u_${key}`))]);
	const note = h("p", { role: "alert" });

	/** @param {string} from @param {string} to */
	async function load(from, to) {
		const path = `api/admin/usage?by=${by}&from=${from}&to=${to}`;
		const steps = interval === "hour" && Date.parse(from) > app.now() - HOURS_MS ? "minute" : interval;
		for (const { format, el } of links) el.href = `${path}&interval=${steps}&format=${format}`;
		try {
			const { rows } = await app.api("GET", path);
			top.fill(mostUsed(rows).map((row) => /** @type {Line} */ ([row.id, texts(row)])));
			note.replaceChildren();
		} catch {
			note.replaceChildren(t("u_failed"), " ", press({ label: t("retry"), run: () => load(from, to) }));
		}
	}
	const controls = h("div.row", t("export"), links.map(({ el }) => el));
	return { el: panel(title, top.el, note, controls), load };
}

/** @param {any[]} rows */
const mostUsed = (rows) => rows.sort((a, b) => b.requests - a.requests).slice(0, MOST_ROWS);

/** @param {any} row */
function texts(row) {
	const part = fromCache(row);
	return [row.name ?? "–", number(row.requests), number(row.errors), compact(tokensIn(row)),
		part === null ? "–" : perCent(part), compact(row.output_tokens), money(row.cost_usd, row.unpriced_requests)];
}
