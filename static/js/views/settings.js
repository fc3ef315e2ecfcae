/** How this browser shows things, and help. */
import { h, panel, setText } from "../dom.js";

const KEYS = {
	"/": "search", "?": "settings", "g o": "overview", "g a": "accounts", "g s": "sessions", "g t": "tokens",
	"g u": "usage", "g e": "events", "↑ ↓ j k": "next_row", x: "select_row", Enter: "open", ".": "actions",
	"← →": "next_bar",
};

export default function mount(root, app) {
	const { t, settings, live } = app;
	// For those of the header a phone has no room there.
	const selects = ["theme", "time"].map((key) => {
		const el = document.getElementById(key)?.cloneNode(true);
		el.className = "";
		return [key, el.ariaLabel, el];
	});
	selects.push(["shortcuts", t("shortcuts"),
		h("select", null, ["on", "off"].map((value) => h("option", { value }, t(value))))]);
	for (const [key, , el] of selects) {
		el.id = "";
		el.onchange = () => settings.set(key, el.value);
	}
	const clock = h("p", { class: "muted" });
	root.append(h("div", { class: "columns" },
		panel(t("browser"), selects.map(([, label, el]) => h("label", { class: "field" }, label, el)), clock),
		panel(t("keys"), h("dl", { class: "facts" }, Object.entries(KEYS).map(([key, does]) =>
			[h("dt", null, h("kbd", null, key)), h("dd", null, t(does))]))),
		panel(t("help"), h("ul", { class: "list" },
			h("li", null, t("help_proxy")), h("li", null, t("help_readme"))))));

	function tick() {
		for (const [key, , el] of selects) el.value = settings.get(key, el.options[0].value);
		const n = Math.round(Math.abs(live.offset) / 1000);
		setText(clock, n > 5 ? t("clock_differs", { n }) : "");
	}
	return { patch: tick, tick };
}
