// @ts-check
/** Whether all is well, what is going on, and what needs somebody. */
import { h, keyed, panel, setAttr, setText } from "../dom.js";
import { compact, money, ms, number, sentence, share, timed } from "../format.js";
import { capacityPanel } from "../ui/capacity.js";
import { bySeverity, ICON, spark } from "../ui/cells.js";

const SOON_MS = 600_000;
const MOST = 8;
/** What came of requests: fields of the usage buckets, and texts with `u_` before. */
export const OUTCOMES = /** @type {const} */ (
	["ok", "client_error", "limited", "upstream_error", "refused", "aborted"]);

/** @import { Account, AccountCounts, AccountStatus, Affinity, App, Bucket, FirstText } from "../types.js" */
/** @import { Health, Mount, Traffic } from "../types.js" */

/** @typedef {{id: string, href: string, name: string, more: string, kind?: string}} Line */
/** @typedef {Record<string, HTMLElement>} Values the elements of figures, by name */

/** @type {Mount} */
export default function mount(root, app) {
	const { store, t } = app;
	/** @type {Values} */
	const values = {};
	const health = healthPanel(app);
	const figures = figuresPanel(app, values);
	const capacity = capacityPanel(app);
	const moves = h("p.muted", { hidden: true });
	const needs = list();
	const events = list();
	const add = h("button.primary", { "data-write": true }, t("add_account"));
	add.onclick = async () => (await app.actions()).addAccount(app);
	root.append(health.el, tiles(app, values), figures.el, moves,
		h("div.columns", capacity.el, panel(t("needs_attention"), needs.el, add),
			panel(t("last_events"), events.el)));

	function tick() {
		const stats = store.items("stats");
		/** @type {[Health, AccountCounts, Traffic | undefined]} */
		const [main, accounts, traffic] = [stats.get("health"), stats.get("accounts"), stats.get("traffic")];
		if (!traffic) return;
		health.patch(main);
		figures.patch(accounts, traffic);
		capacity.patch(stats.get("capacity"));
		drawMoves(app, moves, stats.get("affinity"));
		needs.patch(...needing(app, accounts));
		add.hidden = accounts.total > 0;
		events.patch(...latest(app, main));
	}

	return { topics: ["accounts", "stats", "usage:1h", "events"], patch: tick, tick };
}

/** Lines with a link each, and a text below. */
function list() {
	const ul = h("ul.list");
	const note = h("p.muted");
	/** @type {Map<string, {el: HTMLElement, link: HTMLElement, more: HTMLElement}>} */
	const rows = new Map();
	function make() {
		const link = h("a");
		const more = h("span");
		return { el: h("li", link, " ", more), link, more };
	}
	return {
		el: [ul, note],
		/**
		 * @param {Line[]} lines
		 * @param {string} text
		 */
		patch(lines, text) {
			keyed(ul, lines.map(({ id }) => id), rows, make);
			for (const { id, href, name, more, kind } of lines) {
				const row = /** @type {ReturnType<typeof make>} */ (rows.get(id));
				setAttr(row.el, "data-kind", kind);
				setAttr(row.link, "href", href);
				setText(row.link, name);
				setText(row.more, more);
			}
			setText(note, text);
		},
	};
}

/** @param {App} app */
function healthPanel(app) {
	const { t } = app;
	const verdict = h("b", "–");
	const reasons = h("ul");
	const seen = h("button", { "data-write": true, hidden: true }, t("findings_seen"));
	seen.onclick = async () => {
		try {
			await app.api("DELETE", "api/admin/findings");
		} catch (error) {
			app.toast({ text: /** @type {Error} */ (error).message, kind: "error" });
		}
	};
	const el = h("section.panel.health", { "aria-label": t("health") }, verdict, reasons, seen);
	/** @type {Map<string, {el: HTMLElement}>} */
	const said = new Map();
	return {
		el,
		/** @param {Health} health */
		patch(health) {
			setAttr(el, "data-kind", health.status);
			setText(verdict, t(health.status));
			const why = [...health.reasons];
			if (health.draining) why.push(t("draining"));
			if (health.insecure) why.push(t("insecure"));
			if (!why.length) why.push(t("all_well"));
			seen.hidden = !health.findings;
			keyed(reasons, why, said, (text) => ({ el: h("li", text) }));
		},
	};
}

/**
 * The number of accounts in each status, each a link to them.
 * @param {App} app
 * @param {Values} values
 */
function tiles({ t }, values) {
	/** @type {(name: AccountStatus | "total", status: string, icon: string, text: string) => HTMLElement} */
	const tile = (name, status, icon, text) => {
		values[name] = h("b", "–");
		return h("a.tile", { "data-kind": status, href: `#/accounts?status=${status}` }, values[name],
			h("span", icon && h("i", { "aria-hidden": "true" }, icon), text));
	};
	/** @type {AccountStatus[]} */
	const statuses = ["active", "rate_limited", "invalid", "inactive"];
	return h("div.tiles", tile("total", "", "", t("accounts")),
		statuses.map((status) => tile(status, status, ICON[status], t(status))));
}

/**
 * @param {App} app
 * @param {Values} values those of the tiles, which are patched as well
 */
function figuresPanel(app, values) {
	const { store, t } = app;
	const requests = spark();
	const tokens = spark();
	/** @type {(key: FirstText, line?: Element) => HTMLElement} */
	const figure = (key, line) => {
		values[key] = h("b", "–");
		return h("div.figure", values[key], line, h("span", t(key)));
	};
	const el = h("div.panel.figures", figure("streams"), figure("requests_min", requests.el),
		figure("tokens_min", tokens.el), figure("cost_today"), figure("next_reset"),
		figure("stayed_today"), figure("moved_today"), figure("cache_today"));

	/**
	 * @param {AccountCounts} accounts
	 * @param {Traffic} traffic
	 */
	function patch(accounts, traffic) {
		const { today } = traffic;
		const cached = today.cache_read_input_tokens;
		const minutes = wholeMinutes([...store.items("usage:1h").values()]);
		const asked = minutes.map((minute) => sum(minute, OUTCOMES));
		const spent = minutes.map((minute) => sum(minute, ["input_tokens", "output_tokens"]));
		requests.patch(asked);
		tokens.patch(spent);
		/** @type {Record<string, string | number | null | undefined>} */
		const now = {
			...accounts,
			streams: traffic.in_flight,
			requests_min: asked.at(-1),
			tokens_min: compact(spent.at(-1)),
			cost_today: money(today.cost_usd, today.unpriced_requests),
			next_reset: app.until(accounts.next_reset_at, "resetting"),
			stayed_today: share(part(today.turns_stayed, today.turns_moved)),
			moved_today: today.turns_moved,
			cache_today: share(part(cached, today.input_tokens + today.cache_creation_input_tokens)),
		};
		for (const [key, el] of Object.entries(values)) {
			const value = now[key];
			setText(el, typeof value === "string" ? value : number(value));
		}
	}
	return { el, patch };
}

/**
 * Of both, what `some` is; null if there is nothing.
 * @param {number} some
 * @param {number} rest
 */
const part = (some, rest) => (some + rest ? some / (some + rest) : null);

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

/** All but the newest, which has only begun. @param {Bucket[]} minutes */
const wholeMinutes = (minutes) => minutes.sort((a, b) => a.start - b.start).slice(0, -1);

/**
 * @param {Bucket} bucket
 * @param {readonly string[]} fields
 */
const sum = (bucket, fields) => fields.reduce((total, field) => total + bucket[field], 0);

/**
 * What of an account needs somebody, or "".
 * @param {App} app
 * @param {Account} account
 */
function trouble({ t, now, until, clock }, { status, status_reason, last_refresh_error: error, expires_at, refreshing }) {
	if (status === "inactive") return "";
	if (status === "invalid") return timed(status_reason ?? t("invalid"), clock);
	if (status === "active" && status_reason) return timed(status_reason, clock);
	if (error) return t("refresh_fails", { error });
	const soon = expires_at && ms(expires_at) - now() < SOON_MS && !refreshing;
	return soon ? t("expires_soon", { in: until(expires_at) }) : "";
}

/**
 * The accounts that need somebody, and what to say below.
 * @param {App} app
 * @param {AccountCounts} counts
 * @returns {[Line[], string]}
 */
function needing(app, counts) {
	const { store, t } = app;
	const troubled = [...store.items("accounts").values()].filter((account) => trouble(app, account));
	const lines = troubled.sort(bySeverity).slice(0, MOST).map((account) =>
		({ id: account.id, href: `#/accounts/${account.id}`, name: account.name, more: trouble(app, account) }));
	if (!counts.total) return [lines, t("no_accounts")];
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
		id,
		href: event.subject?.kind === "account" ? `#/accounts/${event.subject.id}` : "#/events",
		name: ago(event.at),
		more: sentence(event, clock),
		kind: event.level,
	}));
	return [lines, lines.length ? "" : t("no_events", { at: clock(health.started_at) })];
}
