// @ts-check
/** How this browser shows things, the server and its configuration, and help. */
import { byId, h, panel, setText } from "../dom.js";
import { number, share } from "../format.js";
import { sheet } from "../ui/sheet.js";
import { server } from "./server.js";

/** A clock that differs by less does no harm. */
const CLOCK_S = 5;
const ON_OFF = /** @type {const} */ (["on", "off"]);

/** @import { App, Instance, Mount, TextKey } from "../types.js" */

/** @type {[keys: string, does: TextKey][]} */
const KEYS = [
	["/", "search"],
	["?", "settings"],
	["g o", "overview"],
	["g a", "accounts"],
	["g s", "sessions"],
	["g t", "tokens"],
	["g r", "requests"],
	["g u", "usage"],
	["g e", "events"],
	["g c", "connect"],
	["↑ ↓ j k", "next_row"],
	["x", "select_row"],
	["Enter", "open"],
	[".", "actions"],
	["← →", "next_bar"],
];

/** @type {Mount} */
export default function mount(root, app) {
	const { t, settings, store } = app;
	// Those of the header are behind a button there.
	const selects = ["theme", "time"].map((id) => /** @type {HTMLSelectElement} */ (byId(id).cloneNode(true)));
	selects.push(h("select", { id: "shortcuts", "aria-label": t("shortcuts") },
		ON_OFF.map((value) => h("option", { value }, t(value)))));
	for (const el of selects) {
		el.name = el.id;
		el.id = "";
		el.className = "";
		el.onchange = () => settings.set(el.name, el.value);
	}
	const clock = h("p.muted");
	const about = h("li");
	const [served, below] = [h("div"), h("div")];
	const instances = instancesPanel(app);
	root.append(h("div.settings",
		panel(t("this_browser"), selects.map((el) => h("label.field", el.ariaLabel, el)), clock), served,
		panel(t("help"), h("ul.list", h("li", t("help_proxy")), about)),
		panel(t("keyboard"), h("dl.facts", KEYS.map(([key, does]) => [h("dt", h("kbd", key)), h("dd", t(does))])))),
		instances.el, below);

	server(app, served, below);

	function tick() {
		instances.tick();
		for (const el of selects) el.value = settings.get(el.name, el.options[0].value);
		const n = Math.round(Math.abs(app.now() - Date.now()) / 1000);
		setText(about, t("help_readme", store.items("stats").get("health")));
		setText(clock, n > CLOCK_S ? t("clock_differs", { n }) : "");
	}
	return { topics: ["instances"], patch: tick, tick };
}

/** The instances that share one store; hidden where there is no such store. @param {App} app */
function instancesPanel({ t, store, clock, ago }) {
	const heads = [t("i_instance"), t("i_at"), t("s_version"), t("s_started"), t("i_rate"), t("i_streams"), t("i_cpu"),
		t("i_lag"), t("i_seen")];
	const table = sheet(t("i_title"), heads);
	const el = panel(t("i_title"), h("p.muted", t("i_about")), table.el);
	el.hidden = true;

	/** @param {Instance} one */
	const texts = (one) => [
		one.draining ? t("i_draining", { id: one.id }) : one.id,
		t("i_place", { host: one.host, port: one.port ?? "–", pid: one.pid }),
		one.version,
		clock(one.started_at),
		String(one.requests_per_s),
		number(one.streams),
		share(one.cpu),
		one.lag_ms === null ? "–" : t("i_ms", { n: one.lag_ms }),
		ago(one.last_seen_at),
	];
	return {
		el,
		tick() {
			const all = [...store.items("instances").values()].sort((a, b) => (a.started_at < b.started_at ? -1 : 1));
			el.hidden = !all.length;
			table.fill(all.map((one) => [one.id, texts(one)]));
		},
	};
}
