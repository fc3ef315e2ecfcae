/** Whether all is well, what is going on, and what needs somebody. */
import { h, keyed, panel, setAttr, setText } from "../dom.js";
import { compact, money, ms, number } from "../format.js";
import { bySeverity, ICON, spark } from "../ui/cells.js";

const SOON_MS = 600_000;
const MOST = 8;
export const OUTCOMES = ["ok", "client_error", "limited", "upstream_error", "refused", "aborted"];

/** Lines [id, link, its text, more text, kind], and a text. */
function list() {
	const ul = h("ul.list"), empty = h("p.muted"), rows = new Map();
	return { el: [ul, empty], patch(lines, text) {
		keyed(ul, lines.map(([id]) => id), rows, () => ({ el: h("li", h("a"), " ", h("span")) }));
		for (const [id, href, name, more, kind] of lines) {
			const { el } = rows.get(id);
			setAttr(el, "data-kind", kind);
			setAttr(el.firstChild, "href", href);
			setText(el.firstChild, name);
			setText(el.lastChild, more);
		}
		setText(empty, text);
	} };
}

export default function mount(root, app) {
	const { store, t } = app, stats = store.items("stats"), values = {}, said = new Map();
	const value = (key) => (values[key] = h("b", "–"));
	const figure = (key, line) => h("div.figure", value(key), line, h("span", t(key)));

	const verdict = h("b", "–"), reasons = h("ul");
	const health = h("section.panel.health", { "aria-label": t("health") }, verdict, reasons);
	const tiles = ["", "active", "rate_limited", "invalid", "inactive"].map((status) =>
		h("a.tile", { "data-kind": status, href: `#/accounts?status=${status}` },
			value(status || "total"),
			h("span", status && h("i", { "aria-hidden": "true" }, ICON[status]), t(status || "accounts"))));
	const requests = spark(), tokens = spark(), needs = list(), events = list();
	const add = h("button.primary", { "data-write": true }, t("add_account"));
	add.onclick = async () => (await app.actions()).addAccount(app);
	root.append(health, h("div.tiles", tiles),
		h("div.panel.figures", figure("streams"), figure("requests_min", requests.el),
			figure("tokens_min", tokens.el), figure("cost_today"), figure("next_reset")),
		h("div.columns", panel(t("needs_attention"), needs.el, add), panel(t("last_events"), events.el)));

	/** What of an account needs somebody. */
	function trouble({ status, status_reason: reason, last_refresh_error: error, expires_at: at, refreshing }) {
		if (status === "inactive") return "";
		if (status === "invalid") return reason ?? t("invalid");
		if (error) return t("refresh_fails", { error });
		return at && ms(at) - app.now() < SOON_MS && !refreshing ? t("expires_soon", { in: app.until(at) }) : "";
	}

	function tick() {
		const [main, accounts, traffic] = ["health", "accounts", "traffic"].map((id) => stats.get(id));
		if (!traffic) return;
		setAttr(health, "data-kind", main.status);
		setText(verdict, t(main.status));
		const why = [...main.reasons, ...["draining", "insecure"].filter((key) => main[key]).map((key) => t(key))];
		keyed(reasons, why.length ? why : [t("all_well")], said, (text) => ({ el: h("li", text) }));

		// The newest minute has only begun.
		const minutes = [...store.items("usage:1h").values()].sort((a, b) => a.start - b.start).slice(0, -1);
		const per = (keys) => minutes.map((minute) => keys.reduce((sum, key) => sum + minute[key], 0));
		const asked = per(OUTCOMES), spent = per(["input_tokens", "output_tokens"]);
		requests.patch(asked);
		tokens.patch(spent);
		const now = { ...accounts, streams: traffic.in_flight, requests_min: asked.at(-1),
			tokens_min: compact(spent.at(-1)), cost_today: money(traffic.today.cost_usd),
			next_reset: app.until(accounts.next_reset_at, "resetting") };
		for (const key in values) {
			setText(values[key], typeof now[key] === "string" ? now[key] : number(now[key]));
		}

		const troubled = [...store.items("accounts").values()].filter(trouble).sort(bySeverity).slice(0, MOST);
		needs.patch(troubled.map((a) => [a.id, `#/accounts/${a.id}`, a.name, trouble(a)]),
			!accounts.total ? t("no_accounts") : accounts.rate_limited && !accounts.active ? t("all_limited")
				: troubled.length ? "" : t("no_attention"));
		add.hidden = accounts.total > 0;
		const last = [...store.items("events")].slice(-MOST).reverse();
		events.patch(last.map(([id, { at, text, level, account_id: account }]) =>
			[id, account ? `#/accounts/${account}` : "#/events", app.ago(at), text, level]),
		last.length ? "" : t("no_events", { at: app.clock(main.started_at) }));
	}

	return { topics: ["accounts", "stats", "usage:1h", "events"], patch: tick, tick };
}
