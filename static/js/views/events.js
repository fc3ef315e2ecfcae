/** What has happened, newest first. */
import { act, h, keyed, setAttr, setText } from "../dom.js";
import { ms } from "../format.js";
import { exporter } from "../ui/export.js";

const LEVELS = ["info", "warning", "error"];
const KINDS = ["accounts", "tokens", "sessions", "health", "admins", "server"];
const FIELDS = ["id", "at", "level", "kind", "text", "account_id", "token_id", "session_id"];

/** When the feed was lost and when it was back, newest first. */
const losses = [];

export default function mount(root, app) {
	const { store, live, t } = app, items = store.items("events");
	const rows = new Map(), loaded = new Map();
	let paused = false, shown = [], { lostAt } = live;

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
	const list = h("ol", { class: "list" }), empty = h("p", { class: "note" });

	/** Events, losses of the connection, and where events are missing the id of the next; newest first. */
	function entries() {
		const found = [], gone = [...losses];
		for (const event of shown.filter(pass)) {
			while (gone[0]?.to > ms(event.at)) found.push(gone.shift());
			found.push(event);
			if (event.skipped && !loaded.has(event.id - 1)) found.push(event.id);
		}
		return found;
	}

	const skipped = (before) => shown.find(({ id }) => id === Number(before)).skipped;

	function line(entry) {
		const { at, from, to } = entry, time = (when) => app.clock(when, { zone: false });
		if (at) return h("li", { class: "row", "data-kind": entry.level },
			h("time", { class: "muted" }, app.clock(at)), h("b", null, t(entry.level)), h("span", null, entry.text),
			entry.account_name && h("a", { href: `#/accounts/${entry.account_id}` }, entry.account_name));
		return h("li", { class: "muted" }, to ? t("loss", { from: time(from), to: time(to) })
			: [t("skipped", { n: skipped(entry) }), " · ",
				h("button", { class: "link", "data-act": "load", value: entry }, t("load"))]);
	}

	function render() {
		if (!paused) shown = [...loaded.values(), ...items.values()].sort((a, b) => b.id - a.id);
		const found = entries();
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
		async load({ value }) {
			const since = value - skipped(value) - 1;
			const { frames } = await app.api("GET", `api/live?epoch=${store.epoch}&topics=events:${since}`);
			for (const event of frames.at(-1).items) items.has(String(event.id)) || loaded.set(event.id, event);
			if (!loaded.has(value - 1)) app.toast({ text: t("not_kept") });
			render();
		},
	});
	root.append(
		h("div", { class: "toolbar" }, level, kind, account, h("button", { "data-act": "follow" }, t("pause")),
			h("label", { class: "row" }, voice, t("announce")),
			exporter(app, "events", FIELDS, () => shown.filter(pass))),
		h("div", { role: "log", "aria-live": "off", "aria-label": t("events"), class: "log" }, list), empty);

	return {
		topics: ["events"],
		tick() {
			if (lostAt && !live.lostAt) losses.unshift({ from: lostAt, to: live.now() }), render();
			lostAt = live.lostAt;
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
