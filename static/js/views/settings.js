// @ts-check
/** How this browser shows things, the server and its configuration, and help. */
import { byId, h, panel, setText } from "../dom.js";
import { instancesPanel } from "./instances.js";
import { server } from "./server.js";

/** A clock that differs by less does no harm. */
const CLOCK_S = 5;
const ON_OFF = /** @type {const} */ (["on", "off"]);

/** @import { Mount, TextKey } from "../types.js" */

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
