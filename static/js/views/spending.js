// @ts-check
/** What a client key cost, by model: bars over a day or more, and a line for each model. */
import { h, panel, sheet } from "../dom.js";
import { compact, money, number } from "../format.js";
import { hashOf } from "../requests.js";
import { RANGES, barsOf, dearest, intervalOf, partsOf, spanOf, sumOf } from "../spending.js";
import { bars } from "../ui/chart.js";
import { notLoaded, press } from "../ui/dialog.js";

const RELOAD_MS = 60_000;
/** The axis reaches that in a bar, at least. */
const LEAST_USD = 0.04;
const TOKENS = /** @type {const} */ (
	["input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens"]);

/** @import { App, UsageRow } from "../types.js" */
/** @import { RangeName } from "../spending.js" */
/** @import { Line } from "../dom.js" */

/** @param {Pick<UsageRow, "requests" | "cost_usd" | "unpriced_requests" | typeof TOKENS[number]>} row */
const texts = (row) => [money(row.cost_usd, row.unpriced_requests), number(row.requests),
	...TOKENS.map((key) => compact(row[key]))];

/**
 * @param {App} app
 * @param {string} id of the client key
 */
export function spendingOf(app, id) {
	const { t } = app;
	const place = h("div");
	const table = sheet(t("k_cost"), [t("model"), t("u_cost_usd"), t("u_requests"), ...TOKENS.map((key) => t(`u_${key}`))]);
	const note = h("p", { role: "status" });
	const chips = RANGES.map((name) => press({ label: t(`k_${name}`), run: () => choose(name) }));
	/** @type {RangeName} */
	let range = RANGES.find((name) => name === app.query().get("range")) ?? "today";
	let askedAt = 0;
	let drawn = "";
	/** @type {ReturnType<typeof bars> | undefined} */
	let chart;

	/** @param {RangeName} name */
	function choose(name) {
		range = name;
		app.setQuery({ range });
		return load();
	}

	/** The bars are of the models that there are: others need another chart. @param {(string | null)[]} parts */
	function chartOf(parts) {
		const key = JSON.stringify([range, parts]);
		if (chart && key === drawn) return chart;
		drawn = key;
		const series = parts.map((model, n) => ({ key: `m${n}`, label: model === null ? t("k_others") : model || "–" }));
		const label = `${t("k_cost")}, ${t(`k_${range}`)}`;
		chart = bars(app, { label, text: money, least: LEAST_USD, series, open: (bar) => app.go(hashOf(bar, { key: id })) });
		place.replaceChildren(chart.el);
		return chart;
	}

	/** @param {UsageRow[]} rows */
	function drawTable(rows) {
		const lines = dearest(rows).map((row) => /** @type {Line} */ ([row.id ?? "", [row.name ?? "–", ...texts(row)]]));
		if (lines.length > 1) lines.push([0, [t("k_all_models"), ...texts(sumOf(rows))]]);
		table.fill(lines);
	}

	async function load() {
		askedAt = app.now();
		const mine = range;
		chips.forEach((chip, n) => chip.setAttribute("aria-pressed", String(RANGES[n] === range)));
		const { from, to } = spanOf(mine, askedAt, app.settings.get("time") === "utc");
		const asked = new URLSearchParams({ by: "model", token: id, from: new Date(from).toISOString() });
		if (to) asked.set("to", new Date(to).toISOString());
		const interval = intervalOf(mine);
		try {
			// Days need not begin with an hour of UTC: the sums are asked for by themselves.
			const [sums, over] = await Promise.all([
				app.api("GET", `api/admin/usage?${asked}`),
				app.api("GET", `api/admin/usage?${asked}&interval=${interval}`),
			]);
			if (mine !== range) return;
			const parts = partsOf(over.rows);
			place.hidden = !parts.length;
			if (parts.length) chartOf(parts).patch(barsOf(over, parts, interval));
			drawTable(sums.rows);
			note.replaceChildren(sums.rows.length ? "" : t("u_empty"));
		} catch (error) {
			if (mine === range) notLoaded(app, note, error, load);
		}
	}

	load();
	return {
		el: panel(t("k_cost"), h("div.chips", { role: "group", "aria-label": t("u_range") }, chips), place, table.el, note),
		tick() {
			if (app.online() && app.now() - askedAt > RELOAD_MS) load();
		},
	};
}
