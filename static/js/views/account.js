/** One account: its facts, use, history, and who is on it now. */
import * as actions from "../actions.js";
import { h, panel, setText } from "../dom.js";
import { compact, money, number } from "../format.js";
import { status } from "../ui/cells.js";
import { bars } from "../ui/chart.js";
import { press } from "../ui/dialog.js";
import { filler } from "../ui/sheet.js";

const HOUR_S = 3600, MINUTE_S = 60;
const join = (...parts) => parts.filter(Boolean).join(" · ");

/** Texts by the label's key. */
const facts = (a, { t, ago, until }) => ({
	type: t(`a_${a.type}`),
	organisation: join(a.organization_name, a.organization_uuid),
	expires: a.refreshing ? t("refreshing") : a.expires_at && until(a.expires_at),
	resets: a.rate_limited_until && until(a.rate_limited_until, "resetting"),
	last_refresh: a.last_refresh_at && ago(a.last_refresh_at),
	refresh_error: a.last_refresh_error,
	in_flight: number(a.in_flight),
	a_day: t("a_used", { requests: number(a.day.requests), errors: number(a.day.errors),
		in: compact(a.day.input_tokens), out: compact(a.day.output_tokens), cost: money(a.day.cost_usd) }),
	quota: join(...Object.entries(a.quota).map(([name, { used, limit, remaining, resets_at: at }]) => {
		const left = used == null ? remaining / limit : 1 - used;
		return t("a_left", { name, n: Math.max(0, Math.round(100 * left)), at: until(at, "resetting") });
	})),
	last_used: ago(a.last_used_at),
	added: ago(a.created_at),
	id: a.id,
});

export default function mount(root, app, id) {
	const { t, store } = app, get = () => store.items("accounts").get(id);
	const button = (label, run, kind) =>
		press({ label: t(label), kind, run: () => run(app, id), "data-write": true });
	const title = h("h2", { tabindex: -1 }), badge = status(app);
	const login = [button("reauthorise", actions.reauthorise), button("refresh", actions.refresh)];
	const off = () => ["inactive", "invalid"].includes(get().status);
	const toggle = button("deactivate", () => actions.setStatus(app, id, off() ? "active" : "inactive"));
	const away = async () => await actions.remove(app, id) && app.go("#/accounts");
	const about = h("dl.panel.facts");
	const tell = filler(about, () => h("div", h("dt"), h("dd")));
	const chart = bars(app, { label: t("a_usage"), series: [{ key: "ok", label: t("u_requests") }] });
	const unused = h("p");
	const lists = ["events", "sessions"].map((topic) => {
		const ul = h("ul.list"), empty = h("p.muted");
		const fill = filler(ul, () => h("li", h("time"), h("span")));
		return { topic, empty, fill, el: panel(t(`a_${topic}`), empty, ul) };
	});
	const body = h("div.account", h("div.row", badge.el, login,
		button("rename", actions.rename), toggle, button("delete", away, "danger")),
	about, panel(t("a_usage"), unused, chart.el), lists.map(({ el }) => el));
	root.append(h("a", { href: "#/accounts" }, `← ${t("accounts")}`), title, body);

	function patch() {
		const account = get();
		body.hidden = !account;
		setText(title, account?.name ?? t(store.ready("accounts") ? "a_none" : "accounts"));
		if (!account) return;
		setText(toggle, t(off() ? "reactivate" : "deactivate"));
		for (const el of login) el.hidden = account.type !== "oauth";
		badge.patch(account, app.now());
		const texts = Object.entries(facts(account, app)).filter(([, text]) => text);
		tell(texts.map(([key, text]) => [key, [t(key), text]]));
		setText(unused, account.day.requests ? "" : t("a_unused"));
		const hour = Math.floor(app.now() / 1000 / MINUTE_S) * MINUTE_S - HOUR_S;
		chart.patch(account.spark.map((ok, n) => ({ start: hour + n * MINUTE_S, span_s: MINUTE_S, ok })));
		const [oldest] = store.items("events").values(), when = (at) => app.clock(at, { zone: false });
		for (const { topic, empty, fill } of lists) {
			const mine = [...store.items(topic)].filter(([, item]) => item.account_id === id).reverse();
			fill(mine.map(([key, item]) => [key, [when(item.at ?? item.last_seen_at), item.text ??
				join(key.slice(0, 8), item.ip, item.user_agent, t("a_running", { n: item.in_flight }))]]));
			setText(empty, mine.length ? "" : t(`a_no_${topic}`, { at: when(oldest?.at) }));
		}
	}

	return { topics: ["events", "sessions"], patch, tick: patch };
}
