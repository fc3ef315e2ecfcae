// @ts-check
/** What one account or client key was used for over time: charts with a choice of the range. */
import { h } from "../dom.js";
import { press } from "./dialog.js";
import { UsageCharts } from "./usage_charts.js";

const RANGES = /** @type {const} */ (["1h", "24h", "7d", "30d"]);

/** @import { App, TextKey } from "../types.js" */

/**
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
