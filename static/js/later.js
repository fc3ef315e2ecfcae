/** What may wait for the first view: keys that work anywhere, and what is read aloud. */
import { setText } from "./dom.js";
import { VIEWS } from "./header.js";

const TOGETHER_MS = 1500;
const SPEAK_MS = 5000;
const MOST = 4;

/** "/" search, "?" help, "g" and then the letter of a view. */
export function listen(app) {
	let began = -TOGETHER_MS;
	addEventListener("keydown", (event) => {
		const { key, timeStamp, target } = event;
		if (target.closest("input:not([type=checkbox]),select,textarea,dialog,[popover]") || event.ctrlKey || event.metaKey ||
			event.altKey || app.settings.get("shortcuts") === "off" || app.live.state === "signed-out") return;
		const name = timeStamp - began < TOGETHER_MS && VIEWS.find((view) => view[0] === key);
		const search = document.querySelector("main [type=search]");
		began = key === "g" ? timeStamp : -TOGETHER_MS;
		if (name) app.go(`#/${name}`);
		else if (key === "?") app.go("#/settings");
		else if (key === "/") search ? search.focus() : app.go("#/accounts");
		else return;
		event.preventDefault();
	});
}

/** What comes within 5 s is said as one. */
export function announcer(region) {
	let texts = [], next = 0, timer = 0;
	const speak = () => {
		const more = texts.length > MOST ? ` (+${texts.length - MOST})` : "";
		setText(region, texts.slice(0, MOST).join(". ") + more);
		next = performance.now() + SPEAK_MS;
		texts = [];
		timer = 0;
	};
	return (text) => {
		texts.push(text);
		timer ||= setTimeout(speak, Math.max(100, next - performance.now()));
	};
}

/** Says which accounts came into trouble or out of it, and what health that makes. */
export function watch({ store, t, announce }) {
	const known = new Map();
	const changed = (id, status) => {
		const before = known.get(id);
		known.set(id, status);
		return before && status && before !== status ? before + status : "";
	};
	const look = (dirty) => {
		for (const id of dirty.get("accounts") ?? []) {
			const { name, status } = store.items("accounts").get(id) ?? {};
			if (/invalid|limited/.test(changed(id, status))) announce(`${name}: ${t(status)}`);
		}
		const { status } = store.items("stats").get("health") ?? {};
		if (changed("health", status)) announce(t("announce_health", { status: t(status) }));
	};
	look(store.all());
	store.watch(look);
}
