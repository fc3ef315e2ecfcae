// @ts-check
/** What was used: over time, of all or split, and by whom. */
import { h, panel, sheet } from "../dom.js";
import { compact, isTime, money, ms, number } from "../format.js";
import { notLoaded, press } from "../ui/dialog.js";
import { save } from "../ui/export.js";
import { perCent } from "../ui/quota.js";
import { UsageCharts } from "../ui/usage_charts.js";
import { fromCache, intervalKept, tokensIn } from "../usage.js";

const MOST_ROWS = 10;
const SPLITS = /** @type {const} */ (["account", "token", "model"]);
const FORMATS = ["csv", "json"];
const RANGES = /** @type {const} */ (["1h", "24h", "7d", "30d"]);
const HEADS = /** @type {const} */ (
	["requests", "errors", "tokens_in", "from_cache", "tokens_out", "cost_usd"]);

/** @import { App, Mount, Translate } from "../types.js" */
/** @import { Line } from "../dom.js" */

/** @typedef {typeof RANGES[number]} RangeName */

/** @type {Mount} */
export default function mount(root, app) {
	const { t } = app;
	const query = app.query();
	const [from, to] = [query.get("from") ?? "", query.get("to") ?? ""];
	const isPart = isTime(from) && isTime(to);
	const range = RANGES.find((name) => name === query.get("range")) ?? "24h";
	const by = SPLITS.find((name) => name === query.get("by"));
	/** Shows the same in another way. @param {Record<string, string>} changes */
	const turn = (changes) => {
		const all = { range, by: by ?? "", ...(isPart && { from, to }), ...changes };
		app.go(`#/usage?${new URLSearchParams(Object.entries(all).filter(([, value]) => value))}`);
	};
	const report = reportOf(app, by ?? "account");
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
	const chips = RANGES.map((name) => press({ label: t(`u_${name}`), "aria-pressed": `${name === range}`,
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
 * The top ten by account, client key or model in the time of the charts, and buttons that save all.
 * @param {App} app
 * @param {typeof SPLITS[number]} by
 */
function reportOf(app, by) {
	const { t } = app;
	const title = `${t("u_top")} ${t(`u_by_${by}`)}`;
	const top = sheet(title, [t("name"), ...HEADS.map((key) => t(`u_${key}`))]);
	const note = h("p", { role: "alert" });
	const buttons = FORMATS.map((format) =>
		press({ label: format.toUpperCase(), class: "link", disabled: true, run: () => download(format) }));
	/** What is reported, once the charts have told. */
	let path = "";
	let began = 0;

	/** @param {string} from @param {string} to */
	async function load(from, to) {
		path = `api/admin/usage?by=${by}&from=${from}&to=${to}`;
		began = ms(from);
		for (const button of buttons) button.disabled = false;
		try {
			const { rows } = await app.api("GET", path);
			top.fill(mostUsed(rows).map((row) => /** @type {Line} */ ([row.id, texts(row)])));
			note.replaceChildren();
		} catch (error) {
			notLoaded(app, note, error, () => load(from, to));
		}
	}

	/** @param {string} format */
	async function download(format) {
		try {
			const file = await app.api("GET", `${path}&interval=${intervalKept(began, app.now())}&format=${format}`);
			save(`usage-by-${by}.${format}`, typeof file === "string" ? file : JSON.stringify(file, null, 2));
		} catch (error) {
			app.toast({ text: /** @type {Error} */ (error).message, kind: "error" });
		}
	}

	return { el: panel(title, top.el, note, h("div.row", t("export"), buttons)), load };
}

/** @param {any[]} rows */
const mostUsed = (rows) => rows.sort((a, b) => b.requests - a.requests).slice(0, MOST_ROWS);

/** @param {any} row */
function texts(row) {
	const part = fromCache(row);
	return [row.name ?? "–", number(row.requests), number(row.errors), compact(tokensIn(row)),
		part === null ? "–" : perCent(part), compact(row.output_tokens), money(row.cost_usd, row.unpriced_requests)];
}
