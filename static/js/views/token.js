// @ts-check
/** One client key: its limits, what it cost by model, who uses it, and who has changed it. */
import { changes } from "../diff.js";
import { filler, h, panel, setAttr, setText } from "../dom.js";
import { sentence } from "../format.js";
import { dayOf } from "../ui/cells.js";
import { press } from "../ui/dialog.js";
import { metersOf } from "../ui/limits.js";
import { edit, endFormer, rotate } from "./key.js";
import { sessionsOf } from "./sessions.js";
import { spendingOf } from "./spending.js";
import { ICON, NEXT, send } from "./tokens.js";

const PAGE = 20;

/** @import { App, ClientKey, LoggedEvent, Mount, TextKey } from "../types.js" */
/** @import { Line } from "../dom.js" */

/** @param {(string | null | false | undefined)[]} parts */
const join = (...parts) => parts.filter(Boolean).join(" · ");

/**
 * Texts by the label's key; those that say nothing are left out.
 * @param {ClientKey} token
 * @param {App} app
 * @returns {[TextKey, string | false | null][]}
 */
const facts = (token, app) => [
	["client_key", join(token.key, token.declared && app.t("declared"))],
	["k_former", token.former_keys.map(({ key, ends_at: at, last_used_at: used }) =>
		app.t(used ? "k_former_used" : "k_former_unused", { key, due: app.due(at), ago: app.ago(used) })).join("; ")],
	["role", app.t(token.role)],
	["models", token.models.join(", ") || app.t("k_all_models")],
	["k_group", token.group],
	["tags", token.tags.join(", ")],
	["k_expires", token.expires_at && app.until(token.expires_at)],
	["last_used", app.ago(token.last_used_at)],
	["a_day", dayOf(token.day, app.t)],
	["created", !token.declared && app.ago(token.created_at)],
	["id", token.id],
];

/** @type {Mount} */
export default function mount(root, app, id = "") {
	const { t, store } = app;
	const items = store.items("tokens");
	const title = h("h2", { tabindex: -1 });
	const about = h("dl.panel.facts");
	const fill = filler(about, () => h("div", h("dt"), h("dd")));
	const controls = controlsOf(app, id);
	const meters = metersOf(app, () => edit(app, { ...items.get(id) }, true));
	const spending = spendingOf(app, id);
	const changes = changesOf(app, id);
	const sessions = sessionsOf(app, "token_id", id, t("sessions"), t("k_no_sessions"));
	const body = h("div.account", controls.el, h("div.view", meters.el, spending.el),
		h("div.view", about, changes.el, sessions.el));
	root.append(h("a.back", { href: "#/tokens" }, `← ${t("tokens")}`), title, body);

	function patch() {
		const token = items.get(id);
		body.hidden = !token;
		setText(title, token?.name ?? t(store.ready("tokens") ? "k_none" : "tokens"));
		if (!token) return;
		controls.patch(token);
		fill(facts(token, app).filter(([, text]) => text).map(([key, text]) =>
			/** @type {Line} */ ([key, [t(key), text]])));
		meters.patch(token);
		changes.patch();
		sessions.patch();
	}

	function tick() {
		patch();
		spending.tick();
	}

	return { topics: ["events", "sessions", "tokens"], patch, tick };
}

/**
 * The status, and buttons for what can be done.
 * @param {App} app
 * @param {string} id
 */
function controlsOf(app, id) {
	const { t, store } = app;
	const here = () => /** @type {ClientKey} */ (store.items("tokens").get(id));
	const sessions = () => [...store.items("sessions").values()].filter(({ token_id: key }) => key === id).length;
	/** @type {(label: TextKey, run: () => unknown, kind?: "danger") => HTMLButtonElement} */
	const button = (label, run, kind) => press({ label: t(label), kind, run, "data-write": true });
	const status = h("b.status");
	const end = button("k_end", () => endFormer(app, here()));
	const toggle = button("disable", () => send(app, NEXT[here().status], id, sessions()));
	const open = [button("k_rotate", () => rotate(app, { ...here() })), button("edit", () => edit(app, { ...here() })), toggle,
		button("revoke", () => send(app, "revoke", id, sessions()), "danger")];
	const remove = button("delete", async () => {
		if (await send(app, "delete", id, sessions())) app.go("#/tokens");
	}, "danger");
	const links = [h("a", { href: `#/requests?key=${id}` }, t("requests")),
		h("a", { href: `#/requests?key=${id}&status=failed` }, t("rq_failed"))];
	return {
		el: h("div.row", status, links, open, end, remove),
		/** @param {ClientKey} token */
		patch({ status: is, declared, former_keys: former }) {
			const over = declared || is === "revoked";
			setAttr(status, "data-kind", is);
			setText(status, `${ICON[is]} ${t(is)}`);
			setText(toggle, t(NEXT[is]));
			for (const control of open) control.hidden = over;
			end.hidden = declared || !former.length;
			remove.hidden = declared || is !== "revoked";
		},
	};
}

/**
 * Who has changed it, and how: the newest from the feed, older ones as they are asked for.
 * @param {App} app
 * @param {string} id
 */
function changesOf(app, id) {
	const { t, store } = app;
	const ul = h("ul.list");
	const note = h("p.muted", { role: "status" });
	const fill = filler(ul, () => h("li", h("time"), h("span"), h("small")));
	/** @type {Map<number, LoggedEvent>} */
	const known = new Map();
	/** @type {number | null | undefined} the cursor of older ones */
	let before;
	const more = press({ label: t("load_older"), run: load });

	/** @param {LoggedEvent} event @returns {Line} */
	const line = (event) => {
		const { actor } = event;
		const by = actor.kind === "system" ? t("by_itself") : join(actor.name ?? actor.id, actor.address);
		return [event.id, [app.clock(event.at, { zone: false }), sentence(event, app.clock),
			join(changes(app, event.before, event.after), t("k_by", { by }))]];
	};

	function patch() {
		for (const event of store.items("events").values()) {
			if (event.subject?.id === id) known.set(event.id, event);
		}
		fill([...known.values()].sort((a, b) => b.id - a.id).map(line));
		more.hidden = before === null;
		if (before !== undefined) setText(note, known.size ? "" : t("k_no_changes"));
	}

	async function load() {
		try {
			const page = await app.api("GET", `api/admin/events?subject=${id}&limit=${PAGE}&before=${before ?? ""}`);
			for (const event of page.events) known.set(event.id, event);
			before = page.next_before;
			patch();
		} catch (error) {
			setText(note, /** @type {Error} */ (error).message);
		}
	}

	load();
	return { el: panel(t("k_changes"), ul, note, more), patch };
}
