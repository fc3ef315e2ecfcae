/** Whether all is well, what is going on, and what needs somebody. */
import { h, keyed, panel, setAttr, setText } from "../dom.js";
import { compact, money, ms, number, span } from "../format.js";
import { spark } from "../ui/spark.js";
import { bySeverity, ICON } from "../ui/status.js";

const SOON_MS = 600_000;
const MOST = 8;
const OUTCOMES = ["ok", "client_error", "limited", "upstream_error", "refused", "aborted"];

/** Lines [id, link, its text, more text, kind], and a text where there is none. */
function list() {
	const ul = h("ul", { class: "list" }), empty = h("p", { class: "muted" }), rows = new Map();
	return { el: [ul, empty], patch(lines, text) {
		keyed(ul, lines.map(([id]) => id), rows, () => ({ el: h("li", null, h("a"), " ", h("span")) }));
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

export default async function mount(root, app) {
	const { store, t } = app, stats = store.items("stats"), values = {}, said = new Map();
	const value = (key) => (values[key] = h("b", null, "–"));
	const figure = (key, line) => h("div", { class: "figure" }, value(key), line, h("span", null, t(key)));

	const verdict = h("b", null, "–"), reasons = h("ul"), about = h("p", { class: "muted" });
	const health = h("section", { class: "panel health", "aria-label": t("health") }, verdict, reasons, about);
	const tiles = ["", "active", "rate_limited", "invalid", "inactive"].map((status) =>
		h("a", { class: "tile", "data-kind": status, href: `#/accounts?status=${status}` },
			value(status || "total"),
			h("span", null, status && h("i", { "aria-hidden": "true" }, ICON[status]), t(status || "accounts"))));
	const requests = spark(), tokens = spark(), needs = list(), events = list();
	const add = h("button", { class: "primary", "data-write": true }, t("add_account"));
	add.onclick = async () => (await app.actions()).addAccount(app);
	root.append(health, h("div", { class: "tiles" }, tiles),
		h("div", { class: "panel figures" }, figure("streams"), figure("requests_min", requests.el),
			figure("tokens_min", tokens.el), figure("requests_today"), figure("cost_today"), figure("next_reset")),
		h("div", { class: "columns" }, panel(t("attention"), needs.el, add),
			panel(t("last_events"), events.el, h("a", { href: "#/events" }, t("all_events")))));

	/** What is wrong with an account, if that needs somebody. */
	function trouble({ status, status_reason: reason, last_refresh_error: error, expires_at: at, refreshing }) {
		if (status === "inactive") return "";
		if (status === "invalid") return reason ?? t("invalid");
		if (error) return t("refresh_fails", { error });
		return at && ms(at) - app.now() < SOON_MS && !refreshing ? t("expires_soon", { in: app.until(at) }) : "";
	}

	function tick() {
		const [main, accounts, traffic] = ["health", "accounts", "traffic"].map((id) => stats.get(id));
		if (!traffic) return;
		const { status, reasons: why, started_at: started, version, insecure, draining } = main;
		setAttr(health, "data-kind", status);
		setText(verdict, t(status));
		const all = [draining && t("draining"), ...why, insecure && t("insecure")].filter(Boolean);
		keyed(reasons, all.length ? all : [t("all_well")], said, (text) => ({ el: h("li", null, text) }));
		setText(about, t("running", { span: span(app.now() - ms(started)), version }));

		// The newest minute has only begun.
		const minutes = [...store.items("usage:1h").values()].sort((a, b) => a.start - b.start).slice(0, -1);
		const per = (keys) => minutes.map((minute) => keys.reduce((sum, key) => sum + minute[key], 0));
		const asked = per(OUTCOMES), spent = per(["input_tokens", "output_tokens"]), { today } = traffic;
		requests.patch(asked);
		tokens.patch(spent);
		const now = { ...accounts, streams: traffic.in_flight, requests_min: asked.at(-1),
			tokens_min: compact(spent.at(-1)), requests_today: compact(today.requests),
			cost_today: money(today.cost_usd), next_reset: app.until(accounts.next_reset_at, "resetting") };
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
		last.length ? "" : t("no_events", { at: app.clock(started) }));
	}

	return { topics: ["accounts", "stats", "usage:1h", "events"], patch: tick, tick };
}
