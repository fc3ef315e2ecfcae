// @ts-check
/** One account: its facts, use, history, and who is on it now. */
import * as actions from "../actions.js";
import { filler, h, panel, setText } from "../dom.js";
import { number, sentence, share, timed } from "../format.js";
import { dayOf, status } from "../ui/cells.js";
import { press } from "../ui/dialog.js";
import { useOf } from "../ui/usage_charts.js";
import { explain } from "./explain.js";
import { edit, percent } from "./preferences.js";
import { historyOf, windowsOf } from "./quota.js";
import { sessionsOf } from "./sessions.js";

/** @import { Account, App, Dirty, Mount, TextKey } from "../types.js" */
/** @import { Line } from "../dom.js" */

/** @param {(string | null | false)[]} parts */
const join = (...parts) => parts.filter(Boolean).join(" · ");

/**
 * Texts by the label's key; those that say nothing are left out.
 * @param {Account} a
 * @param {App} app
 * @returns {[TextKey, string | false | null][]}
 */
const facts = (a, app) => [
	["type", app.t(`a_${a.type}`)],
	["api_key", a.unchecked && app.t("a_unchecked")],
	["organisation", join(a.organization_name, a.organization_uuid)],
	["expires", a.refreshing ? app.t("refreshing") : a.expires_at && app.until(a.expires_at)],
	["resets", a.rate_limited_until && app.until(a.rate_limited_until, "resetting")],
	["last_refresh", a.last_refresh_at && app.ago(a.last_refresh_at)],
	["refresh_error", a.last_refresh_error],
	["in_flight", number(a.in_flight)],
	["a_day", dayOf(a.day, app.t)],
	["a_conversations", number(a.conversations)],
	["a_resources", number(a.resources)],
	["a_homes", number(a.homes)],
	["a_cache", a.cache_read_share !== null && share(a.cache_read_share)],
	["last_used", app.ago(a.last_used_at)],
	["priority", a.priority !== 0 && String(a.priority)],
	["weight", a.weight !== 1 && String(a.weight)],
	["reserve", a.reserve > 0 && `${percent(a.reserve)} %`],
	["tags", a.tags.join(", ")],
	["proxy", a.proxy],
	["note", a.note],
	["added", app.ago(a.created_at)],
	["id", a.id],
];

/** @type {Mount} */
export default function mount(root, app, id = "") {
	const { t, store } = app;
	const title = h("h2", { tabindex: -1 });
	const controls = controlsOf(app, id);
	const reason = h("p");
	const about = aboutOf(app);
	const quota = windowsOf(app);
	const past = historyOf(app, id);
	const unused = h("p.muted");
	const use = useOf(app, "account", id, ["u_requests", "u_tries", "u_cost_usd", "u_ttfb"]);
	const changes = eventsOf(app, id);
	const sessions = sessionsOf(app, "account_id", id, t("a_sessions"), t("a_no_sessions"));
	const body = h("div.account", controls.el, reason, h("div.view", quota.el, past.el, changes.el),
		h("div.view", about.el, sessions.el), unused, use.el);
	root.append(h("a.back", { href: "#/accounts" }, `← ${t("accounts")}`), title, body);

	/** @param {Dirty} [dirty] */
	function patch(dirty) {
		const account = store.items("accounts").get(id);
		body.hidden = !account;
		setText(title, account?.name ?? t(store.ready("accounts") ? "a_none" : "accounts"));
		if (!account) return;
		controls.patch(account);
		setText(reason, account.status_reason ? timed(account.status_reason, app.clock) : "");
		reason.hidden = !account.status_reason;
		about.patch(account);
		quota.patch(account);
		setText(unused, account.day.requests ? "" : t("a_unused"));
		if (dirty?.get("accounts")?.has(id)) use.touch();
		changes.patch();
		sessions.patch();
	}

	/** @param {number} now */
	function tick(now) {
		patch();
		past.tick();
		use.tick(now);
	}

	return { topics: ["events", "sessions"], patch, tick };
}

/** The facts. @param {App} app */
function aboutOf(app) {
	const el = h("dl.panel.facts");
	const fill = filler(el, () => h("div", h("dt"), h("dd")));
	return {
		el,
		/** @param {Account} account */
		patch(account) {
			/** @type {Line[]} */
			const lines = [];
			for (const [key, text] of facts(account, app)) {
				if (text) lines.push([key, [app.t(key), text]]);
			}
			fill(lines);
		},
	};
}

/**
 * The status, and buttons for what can be done.
 * @param {App} app
 * @param {string} id
 */
function controlsOf(app, id) {
	const { t, store } = app;
	/** @type {(label: TextKey, run: () => unknown, kind?: "danger") => HTMLButtonElement} */
	const button = (label, run, kind) => press({ label: t(label), kind, run, "data-write": true });
	const isOff = () => ["inactive", "invalid"].includes(store.items("accounts").get(id)?.status ?? "");
	const badge = status(app);
	const login = [
		button("reauthorise", () => actions.reauthorise(app, id)),
		button("refresh", () => actions.refresh(app, id)),
	];
	const toggle = button("deactivate", () => actions.setStatus(app, id, isOff() ? "active" : "inactive"));
	const remove = async () => {
		if (await actions.remove(app, id)) app.go("#/accounts");
	};
	const check = button("test", () => actions.test(app, id));
	const newKey = button("replace_key", () => actions.replaceKey(app, id));
	const links = [h("a", { href: `#/requests?account=${id}` }, t("requests")),
		h("a", { href: `#/requests?account=${id}&status=failed` }, t("rq_failed"))];
	const el = h("div.row", badge.el, links, check, newKey, login, button("edit", () => edit(app, id)),
		press({ label: t("why_account"), run: () => explain(app, id) }), toggle, button("delete", remove, "danger"));
	return {
		el,
		/** @param {Account} account */
		patch(account) {
			setText(toggle, t(isOff() ? "reactivate" : "deactivate"));
			newKey.hidden = account.type !== "api_key";
			for (const control of login) control.hidden = account.type !== "oauth";
			badge.patch(account);
		},
	};
}

/**
 * What happened to it, the newest first.
 * @param {App} app
 * @param {string} id
 */
function eventsOf({ t, store, clock }, id) {
	const items = store.items("events");
	const ul = h("ul.list");
	const note = h("p.muted");
	const fill = filler(ul, () => h("li", h("time"), h("span")));
	const when = (/** @type {string | undefined} */ at) => clock(at, { zone: false });
	return {
		el: panel(t("a_events"), note, ul),
		patch() {
			const [oldest] = items.values();
			const mine = [...items.values()].filter(({ subject }) => subject?.id === id).reverse();
			fill(mine.map((event) => /** @type {Line} */ ([event.id, [when(event.at), sentence(event, clock)]])));
			setText(note, mine.length ? "" : t("a_no_events", { at: when(oldest?.at) }));
		},
	};
}
