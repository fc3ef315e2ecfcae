// @ts-check
/** Whether all is well, what is going on, and what needs somebody. */
import { stepsOf, troubleOf } from "../attention.js";
import { h, keyed, panel, setAttr, setText } from "../dom.js";
import { money, sentence, timed } from "../format.js";
import { bySeverity } from "../ui/cells.js";
import { capacityPanel, figuresPanel } from "../ui/figures.js";
import { verdictPanel } from "../ui/verdict.js";

const MOST = 8;
/** Where the steps of a new proxy are taken; the first one has a button. */
const STEPS_AT = ["", "#/tokens", "#/connect", "#/requests"];

/** @import { Trouble } from "../attention.js" */
/** @import { Account, AccountCounts, Affinity, App, FirstText, Health, Mount, Traffic } from "../types.js" */

/** `solve` is a button's text and what it does.
 * @typedef {{id: string, href: string, name: string, more: string, kind?: string, solve?: Trouble["solve"]}} Line */

/** @type {Mount} */
export default function mount(root, app) {
	const { store, t } = app;
	const verdict = verdictPanel(app);
	const figures = figuresPanel(app);
	const capacity = capacityPanel(app);
	const moves = h("p.muted", { hidden: true });
	const first = firstSteps(app);
	const needs = list(app, "needs");
	const events = list(app, "feed");
	const attention = panel(t("needs_attention"), needs.el);
	const parts = [verdict.el, first.el, figures.el, moves,
		h("div.columns", h("div.view", attention, capacity.el), panel(t("last_events"), events.el))];

	function tick() {
		const stats = store.items("stats");
		/** @type {[Health, AccountCounts, Traffic | undefined]} */
		const [main, accounts, traffic] = [stats.get("health"), stats.get("accounts"), stats.get("traffic")];
		if (!traffic) return;
		verdict.patch(main, accounts);
		figures.patch(traffic);
		capacity.patch(stats.get("capacity"));
		drawMoves(app, moves, stats.get("affinity"));
		needs.patch(...needing(app, accounts));
		attention.hidden = !accounts.total;
		first.patch(traffic);
		events.patch(...latest(app, main));
		// Not sooner: what is empty yet would push down what is below it once it is filled.
		if (!parts[0].isConnected) root.append(...parts);
	}

	return { topics: ["accounts", "stats", "usage:1h", "events"], patch: tick, tick };
}

/** What a new proxy still needs; it is gone when the first request was answered. @param {App} app */
function firstSteps(app) {
	const { store, t } = app;
	const add = h("button.primary", { "data-write": true }, t("add_account"));
	add.onclick = async () => (await app.actions()).addAccount(app);
	const none = h("p", t("no_accounts"), " ", add);
	/** @type {Map<FirstText, {el: HTMLElement, mark: HTMLElement, word: HTMLElement}>} */
	const rows = new Map();
	const ol = h("ol.list.steps");
	const el = panel(t("f_title"), ol, none);
	el.hidden = true;

	/** @param {FirstText} text @param {string} href */
	function make(text, href) {
		const [mark, word] = [h("i", { "aria-hidden": "true" }), h("span.sr")];
		return { el: h("li", mark, href ? h("a", { href }, t(text)) : h("span", t(text)), word), mark, word };
	}

	return {
		el,
		/** @param {Traffic} traffic */
		patch(traffic) {
			const steps = stepsOf([...store.items("accounts").values()], traffic);
			el.hidden = !store.ready("accounts") || steps[steps.length - 1].done;
			none.hidden = steps[0].done;
			keyed(ol, steps.map(({ text }) => text), rows, (text) =>
				make(text, STEPS_AT[steps.findIndex((step) => step.text === text)]));
			for (const { text, done } of steps) {
				const row = rows.get(text);
				setAttr(row?.el ?? ol, "data-kind", done && "ok");
				setText(row?.mark ?? null, done ? "✓" : "○");
				setText(row?.word ?? null, done ? t("f_done") : "");
			}
		},
	};
}

/**
 * Lines with a link each, a text, and what solves it; and a text below.
 * @param {App} app
 * @param {"needs" | "feed"} look
 */
function list(app, look) {
	const ul = h("ul.list", { class: `list ${look}` });
	const note = h("p.muted");
	/** @type {Map<string, {el: HTMLElement, link: HTMLElement, more: HTMLElement}>} */
	const rows = new Map();

	/** @param {Line | undefined} line */
	function make(line) {
		const link = h("a");
		const more = h("span");
		const button = line?.solve && solver(app, line.id, line.solve);
		return { el: h("li", h("p", link, " ", more), button), link, more };
	}
	return {
		el: [ul, note],
		/**
		 * @param {Line[]} lines
		 * @param {string} text
		 */
		patch(lines, text) {
			/** Another button is another row. @param {Line} line */
			const keyOf = ({ id, solve }) => `${id} ${solve ?? ""}`;
			const byKey = new Map(lines.map((line) => [keyOf(line), line]));
			keyed(ul, byKey.keys(), rows, (key) => make(byKey.get(key)));
			for (const [key, { href, name, more, kind }] of byKey) {
				const row = /** @type {ReturnType<typeof make>} */ (rows.get(key));
				setAttr(row.el, "data-kind", kind);
				setAttr(row.link, "href", href);
				setText(row.link, name);
				setText(row.more, more);
			}
			setText(note, text);
		},
	};
}

/**
 * @param {App} app
 * @param {string} id
 * @param {Trouble["solve"]} solve
 */
function solver(app, id, solve) {
	const button = h("button", { "data-write": true }, app.t(solve));
	button.onclick = async () => {
		const { reauthorise, refresh, replaceKey, test } = await app.actions();
		({ reauthorise, refresh, replace_key: replaceKey, test })[solve](app, id);
	};
	return button;
}

/**
 * The accounts that need somebody, and what to say below.
 * @param {App} app
 * @param {AccountCounts} counts
 * @returns {[Line[], string]}
 */
function needing({ store, t, now, clock, due }, counts) {
	const troubled = [...store.items("accounts").values()].sort(bySeverity)
		.flatMap((account) => /** @type {[Account, Trouble | null][]} */ ([[account, troubleOf(account, now())]]));
	/** @type {Line[]} */
	const lines = troubled.flatMap(([{ id, name, expires_at: end, status }, trouble]) => (trouble ? [{
		id,
		href: `#/accounts/${id}`,
		name,
		more: t(trouble.text, { why: timed(trouble.why, clock), due: end ? due(end) : "" }),
		kind: status === "invalid" ? "error" : "warn",
		solve: trouble.solve,
	}] : []));
	const n = lines.length - MOST;
	if (n > 0) lines.splice(MOST, n, { id: "", href: "#/accounts", name: t("and_more", { n }), more: "" });
	if (counts.rate_limited && !counts.active) return [lines, t("all_limited")];
	return [lines, lines.length ? "" : t("no_attention")];
}

/**
 * The last events, and what to say if there are none.
 * @param {App} app
 * @param {Health} health
 * @returns {[Line[], string]}
 */
function latest({ store, t, ago, clock }, health) {
	const last = [...store.items("events")].slice(-MOST).reverse();
	const lines = last.map(([id, event]) => ({
		id: String(id),
		href: event.subject?.kind === "account" ? `#/accounts/${event.subject.id}` : "#/events",
		name: ago(event.at),
		more: sentence(event, clock),
		kind: event.level,
	}));
	return [lines, lines.length ? "" : t("no_events", { at: clock(health.started_at) })];
}

/**
 * Why conversations have changed their accounts, and what it cost.
 * @param {App} app
 * @param {HTMLElement} el
 * @param {Affinity} affinity
 */
function drawMoves({ t }, el, { moved, moved_cost_usd: cost, moved_unpriced: unpriced }) {
	const why = Object.entries(moved).filter(([, n]) => n);
	const what = why.map(([reason, n]) => t(/** @type {FirstText} */ (`m_${reason}`), { n })).join(", ");
	el.hidden = !why.length;
	setText(el, t("moves", { what, cost: money(cost, unpriced) }));
}
