/** What has happened, newest first. */
import { act, h, keyed, setAttr, setText } from "../dom.js";
import { offer } from "../ui/export.js";

const LEVELS = ["info", "warning", "error"];
const KINDS = ["accounts", "tokens", "sessions", "health", "admins", "server"];
const FIELDS = ["id", "at", "level", "kind", "text", "account_id", "token_id", "session_id"];

export default function mount(root, app) {
	const { store, live, t } = app, items = store.items("events"), rows = new Map();
	let paused = false, shown = [];

	const filter = (name, el) => {
		el.value = app.query().get(name) ?? "";
		el.oninput = () => (app.setQuery({ [name]: el.value }), render());
		return el;
	};
	const select = (name, values) => filter(name, h("select", { "aria-label": t(name) },
		["", ...values].map((value) => h("option", { value: value.replace(/s$/, "") }, t(value || name)))));
	const level = select("level", LEVELS), kind = select("kind", KINDS), label = t("accounts");
	const account = filter("account", h("input", { type: "search", placeholder: label, "aria-label": label }));
	const pass = (event) => event.level.startsWith(level.value) && event.kind.startsWith(kind.value) &&
		(event.account_name ?? "").toLowerCase().includes(account.value.toLowerCase());
	const voice = h("input", { type: "checkbox", role: "switch" });
	const list = h("ol.list"), empty = h("p.note");
	const time = (at) => app.clock(at, { zone: false });

	function line({ from, at, level: grade, text, account_id: id, account_name: name, skipped: n }) {
		if (from) return h("li.muted", t("loss", { from: time(from), to: time(at) }));
		return h("li", { "data-kind": grade },
			h("div.row", h("time.muted", app.clock(at)), h("b", t(grade)),
				h("span", text), name && h("a", { href: `#/accounts/${id}` }, name)),
			n && h("p.muted", t("skipped", { n })));
	}

	function render() {
		if (!paused) shown = [...items.values()].reverse();
		const found = [...shown.filter(pass), ...live.losses].sort((a, b) => (a.at < b.at) - (a.at > b.at));
		keyed(list, found, rows, (entry) => ({ el: line(entry) }));
		setText(empty, items.size ? t("no_event")
			: t("no_events", { at: app.clock(store.items("stats").get("health")?.started_at) }));
		setAttr(empty, "hidden", found.length || !store.ready("events"));
	}

	act(root, {
		follow(el) {
			paused = !paused;
			setText(el, t(paused ? "follow" : "pause"));
			render();
		},
		export: (el) => offer(app, el, "events", FIELDS, shown.filter(pass)),
	});
	root.append(
		h("div.toolbar", level, kind, account, h("button", { "data-act": "follow" }, t("pause")),
			h("label.row", voice, t("announce_events")), h("button", { "data-act": "export" }, t("export"))),
		h("div.log", { role: "log", "aria-live": "off", "aria-label": t("events") }, list), empty);

	return {
		topics: ["events"],
		tick() {
			const newest = live.losses.at(-1);
			if (newest && !rows.has(newest)) render();
		},
		patch(dirty) {
			if (!dirty.has("events")) return;
			for (const event of [...dirty.get("events")].map((id) => items.get(id))) {
				if (voice.checked && shown.length && event && pass(event)) app.announce(event.text);
			}
			render();
		},
	};
}
