/** How this browser shows things, and help. */
import { h, panel, setText } from "../dom.js";

const KEYS = {
	"/": "search", "?": "settings", "g o": "overview", "g a": "accounts", "g s": "sessions", "g t": "tokens",
	"g u": "usage", "g e": "events", "g c": "connect", "↑ ↓ j k": "next_row", x: "select_row", Enter: "open",
	".": "actions", "← →": "next_bar",
};

export default function mount(root, app) {
	const { t, settings, store } = app;
	// For those of the header a phone has no room there.
	const selects = ["theme", "time"].map((id) => document.getElementById(id).cloneNode(true));
	selects.push(h("select", { id: "shortcuts", "aria-label": t("shortcuts") },
		["on", "off"].map((value) => h("option", { value }, t(value)))));
	for (const el of selects) {
		el.name = el.id;
		el.id = el.className = "";
		el.onchange = () => settings.set(el.name, el.value);
	}
	const clock = h("p.muted"), about = h("li");
	root.append(h("div.columns",
		panel(t("this_browser"), selects.map((el) => h("label.field", el.ariaLabel, el)), clock),
		panel(t("keyboard"), h("dl.facts", Object.entries(KEYS).map(([key, does]) =>
			[h("dt", h("kbd", key)), h("dd", t(does))]))),
		panel(t("help"), h("ul.list",
			h("li", t("help_proxy")), about))));

	function tick() {
		for (const el of selects) el.value = settings.get(el.name, el.options[0].value);
		const n = Math.round(Math.abs(app.now() - Date.now()) / 1000);
		setText(about, t("help_readme", store.items("stats").get("health")));
		setText(clock, n > 5 ? t("clock_differs", { n }) : "");
	}
	return { patch: tick, tick };
}
