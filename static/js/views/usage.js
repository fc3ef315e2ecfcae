/** What was used: over time, from the feed, and by whom, from the report. */
import { h, panel } from "../dom.js";
import { compact, money, number } from "../format.js";
import { bars } from "../ui/chart.js";
import { press } from "../ui/dialog.js";
import { sheet } from "../ui/sheet.js";
import { OUTCOMES } from "./overview.js";

const HOUR_MS = 3_600_000;
/** Hours, and the interval of the export. */
const RANGES = { "1h": [1, "minute"], "24h": [24, "hour"], "7d": [168, "hour"], "30d": [720, "day"] };
const TOKENS = ["input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"];
const CHARTS = { requests: OUTCOMES, tokens: TOKENS, cost_usd: ["cost_usd"] };

export default function mount(root, app) {
	const { store } = app, query = app.query();
	const t = (key) => app.t(`u_${key}`);
	const asked = query.get("range"), range = asked in RANGES ? asked : "24h", topic = `usage:${range}`;
	const [hours, interval] = RANGES[range];
	const charts = Object.entries(CHARTS).map(([what, keys]) => bars(app, {
		label: `${t(what)}, ${t(range)}`, text: what === "cost_usd" ? money : number,
		series: keys.map((key) => ({ key, label: t(key) })),
	}));
	const empty = h("p.note", { hidden: true }, t("empty"));
	const by = h("select", { "aria-label": t("top") }, ["account", "token", "model"].map((value) =>
		h("option", { value, selected: value === query.get("by") }, t(`by_${value}`))));
	const links = ["csv", "json"].map((form) => h("a", { download: `usage.${form}` }, form.toUpperCase()));
	const top = sheet(t("top"), [app.t("name"), ...["requests", "errors", ...TOKENS, "cost_usd"].map(t)]);
	const note = h("p", { role: "alert" });
	let loadedAt = 0;

	async function load() {
		loadedAt = app.now();
		const path = `api/admin/usage?by=${by.value}&from=${new Date(loadedAt - hours * HOUR_MS).toISOString()}`;
		for (const link of links) link.href = `${path}&interval=${interval}&format=${link.download.slice(6)}`;
		try {
			const { rows } = await app.api("GET", path);
			top.fill(rows.sort((a, b) => b.requests - a.requests).slice(0, 10).map((row) => [row.id, [
				row.name ?? "–", number(row.requests), number(row.errors), ...TOKENS.map((key) => compact(row[key])),
				money(row.cost_usd)]]));
			note.replaceChildren();
		} catch {
			note.replaceChildren(t("failed"), " ", press({ label: app.t("retry"), run: load }));
		}
	}
	by.onchange = () => (app.setQuery({ by: by.value }), load());
	load();

	root.append(
		h("div.chips", { role: "group", "aria-label": t("range") }, Object.keys(RANGES).map((key) =>
			press({ label: t(key), "aria-pressed": `${key === range}`, run: () => app.go(`#/usage?range=${key}`) }))),
		empty, ...Object.keys(CHARTS).map((what, n) => panel(t(what), charts[n].el)),
		panel(t("top"), h("div.row", by, app.t("export"), links), top.el, note));
	return {
		topics: [topic],
		tick: (now) => app.online() && now - loadedAt > 60_000 && load(),
		patch(dirty) {
			if (!dirty.has(topic) || !store.ready(topic)) return;
			const buckets = [...store.items(topic).values()];
			for (const chart of charts) chart.patch(buckets);
			empty.hidden = buckets.some((bucket) => OUTCOMES.some((key) => bucket[key]));
		},
	};
}
