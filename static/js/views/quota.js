// @ts-check
/** An account's quota: a bar for each window, and how they went over the last day or week. */
import { h, keyed, panel, setAttr, setText } from "../dom.js";
import { ms, number } from "../format.js";
import { bars } from "../ui/chart.js";
import { notLoaded, press } from "../ui/dialog.js";
import { bar, fullAt, levelOf, nameOf, perCent, usedOf, wordsOf } from "../ui/quota.js";

const RANGES = /** @type {const} */ (["24h", "7d"]);
const RELOAD_MS = 60_000;
const SECOND_MS = 1000;
const MOST_LINES = 8;

/** @import { Account, App, Quota } from "../types.js" */

/**
 * A bar with its texts for each window.
 * @param {App} app
 */
export function windowsOf(app) {
	const { t, now, due } = app;
	const ul = h("ul.list.windows");
	const none = h("p.muted");
	/** @type {Map<string, ReturnType<typeof make>>} */
	const rows = new Map();

	function make() {
		const meter = bar();
		const [name, much, more] = [h("b"), h("span"), h("small")];
		return { el: h("li", name, much, meter.el, more), name, much, more, meter };
	}

	/** @param {Quota} quota */
	function details(quota) {
		const { limit, remaining, resets_at: at } = quota;
		const full = fullAt(quota, now());
		const left = limit !== null && remaining !== null &&
			t("q_left", { left: number(remaining), limit: number(limit) });
		const resets = at !== null && ms(at) > now() && t("q_resets", { due: due(at) });
		const pace = full !== null && t("q_pace", { due: due(full) });
		return [left, resets, pace].filter(Boolean).join(" · ");
	}

	return {
		el: panel(t("quota"), ul, none),
		/** @param {Account} account */
		patch({ quota }) {
			keyed(ul, quota.map(({ window }) => window), rows, make);
			for (const window of quota) {
				const row = /** @type {ReturnType<typeof make>} */ (rows.get(window.window));
				const used = usedOf(window, now());
				setText(row.name, nameOf(window.window, t));
				setText(row.much, wordsOf(used, t));
				setAttr(row.much, "data-kind", levelOf(used)?.kind);
				setText(row.more, details(window));
				row.meter.patch(used);
			}
			setText(none, quota.length ? "" : t("q_none"));
		},
	};
}

/** What was used of each window at a time. @typedef {{start: number, span_s: number, points: (number | null)[]}} Points */

/** @param {{from: string, step_seconds: number, windows: {used: (number | null)[]}[]}} found @returns {Points[]} */
const pointsOf = ({ from, step_seconds: span_s, windows }) => (windows[0]?.used ?? []).map((_, at) =>
	({ start: ms(from) / SECOND_MS + at * span_s, span_s, points: windows.map(({ used }) => used[at]) }));

/**
 * The step lines, asked for anew each minute.
 * @param {App} app
 * @param {string} id
 */
export function historyOf(app, id) {
	const { t } = app;
	const chart = bars(app, { label: t("q_history"), kind: "lines", text: perCent, step: 0.25 });
	const note = h("p", { role: "status" });
	/** @type {typeof RANGES[number]} */
	let range = "24h";
	let askedAt = 0;
	const chips = RANGES.map((name) => press({ label: t(`u_${name}`), run: () => choose(name) }));

	/** @param {typeof RANGES[number]} name */
	function choose(name) {
		range = name;
		return load();
	}

	async function load() {
		askedAt = app.now();
		const mine = range;
		chips.forEach((chip, n) => chip.setAttribute("aria-pressed", String(RANGES[n] === range)));
		try {
			const found = await app.api("GET", `api/accounts/${id}/quota?range=${mine}`);
			if (mine !== range) return;
			/** @type {{window: string, used: (number | null)[]}[]} */
			const windows = found.windows;
			const series = windows.slice(0, MOST_LINES).map(({ window }, n) =>
				({ key: `s-${n}`, label: nameOf(window, t), of: (/** @type {Points} */ { points }) => points[n] }));
			chart.patch(pointsOf(found), { series });
			chart.el.hidden = !windows.length;
			note.replaceChildren(windows.length ? "" : t("q_no_history"));
		} catch (error) {
			if (mine === range) notLoaded(app, note, error, load);
		}
	}

	chart.el.hidden = true;
	load();
	return {
		el: panel(t("q_history"), h("div.chips", { role: "group", "aria-label": t("q_history") }, chips), chart.el, note),
		tick() {
			if (app.online() && app.now() - askedAt > RELOAD_MS) load();
		},
	};
}
