// @ts-check
/** What may wait for the first view: keys that work anywhere, and what is read aloud. */
import { setText } from "./dom.js";
import { VIEWS } from "./header.js";

/** "g" and the letter of a view have to come within this. */
const TOGETHER_MS = 1500;
const SPEAK_MS = 5000;
/** What is said in the same moment comes together. */
const GATHER_MS = 100;
const MOST = 4;
/** Where keys are for something else. */
const BUSY = "input:not([type=checkbox]),select,textarea,dialog,[popover]";
const WORTH_SAYING = ["invalid", "rate_limited"];

/** @import { App, Dirty } from "./types.js" */

/** "/" search, "?" help, "g" and then the letter of a view. @param {App} app */
export function listen(app) {
	let began = -TOGETHER_MS;
	addEventListener("keydown", (event) => {
		if (ignored(app, event)) return;
		const { key, timeStamp } = event;
		const together = timeStamp - began < TOGETHER_MS;
		began = key === "g" ? timeStamp : -TOGETHER_MS;
		const name = together && VIEWS.find((view) => view[0] === key);
		if (name) app.go(`#/${name}`);
		else if (key === "?") app.go("#/settings");
		else if (key === "/") search(app);
		else return;
		event.preventDefault();
	});
}

/**
 * @param {App} app
 * @param {KeyboardEvent} event
 */
function ignored(app, { target, ctrlKey, metaKey, altKey }) {
	return ctrlKey || metaKey || altKey || /** @type {Element} */ (target).closest(BUSY) !== null ||
		app.settings.get("shortcuts") === "off" || app.live.state === "signed-out";
}

/** @param {App} app */
function search(app) {
	const field = document.querySelector("main [type=search]");
	if (field instanceof HTMLElement) field.focus();
	else app.go("#/accounts");
}

/** What comes within 5 s is said as one. @param {HTMLElement} region */
export function announcer(region) {
	/** @type {string[]} */
	let texts = [];
	let next = 0;
	let timer = 0;
	const speak = () => {
		const more = texts.length > MOST ? ` (+${texts.length - MOST})` : "";
		setText(region, texts.slice(0, MOST).join(". ") + more);
		next = performance.now() + SPEAK_MS;
		texts = [];
		timer = 0;
	};
	return (/** @type {string} */ text) => {
		texts.push(text);
		timer ||= setTimeout(speak, Math.max(GATHER_MS, next - performance.now()));
	};
}

/** Says which accounts came into trouble or out of it, and what health that makes. @param {App} app */
export function watch({ store, t, announce }) {
	/** The last status by id. @type {Map<string, string | undefined>} */
	const known = new Map();

	/**
	 * What the status was and is, if it has changed.
	 * @param {string} id
	 * @param {string | undefined} status
	 */
	function changed(id, status) {
		const before = known.get(id);
		known.set(id, status);
		return before && status && before !== status ? [before, status] : [];
	}

	/** @param {Dirty} dirty */
	function look(dirty) {
		for (const id of dirty.get("accounts") ?? []) {
			const account = store.items("accounts").get(id);
			const worth = changed(id, account?.status).some((status) => WORTH_SAYING.includes(status));
			if (account && worth) announce(`${account.name}: ${t(account.status)}`);
		}
		const health = store.items("stats").get("health");
		if (changed("health", health?.status).length) announce(t("announce_health", { status: t(health.status) }));
	}
	look(store.all());
	store.watch(look);
}
