// @ts-check
/** Short messages in the corner; all stay in the list of notifications. */
import { byId, h } from "../dom.js";
import { clock } from "../format.js";

const MOST = 3;
const STAYS_MS = 6000;
const UNDO_MS = 10_000;

/** @import { Toast, Translate } from "../types.js" */

/**
 * @param {HTMLElement} host
 * @param {HTMLElement} list of notifications
 * @param {Translate} t
 * @param {Toast} toast
 */
export function toast(host, list, t, { text, kind = "ok", undo = null, label = t("undo") }) {
	const bad = kind === "error";
	let timer = 0;
	const hold = () => clearTimeout(timer);
	const wait = () => {
		hold();
		if (!bad) timer = setTimeout(close, undo ? UNDO_MS : STAYS_MS);
	};
	const button = (/** @type {string} */ name, /** @type {() => void} */ run = () => {}) => {
		const el = h("button.link", name);
		el.onclick = () => {
			close();
			run();
		};
		return el;
	};
	const el = h("div.toast", { "data-kind": kind, role: bad ? "alert" : "status" },
		h("p", text), undo && button(label, undo), button(t("dismiss")));
	function close() {
		hold();
		if (el.contains(document.activeElement)) byId("main").focus();
		el.remove();
	}
	for (const name of ["mouseenter", "focusin"]) el.addEventListener(name, hold);
	for (const name of ["mouseleave", "focusout"]) el.addEventListener(name, wait);
	while (host.children.length >= MOST) host.firstChild?.remove();
	host.append(el);
	list.prepend(h("li", h("small", clock(Date.now())), ` ${text}`));
	wait();
}
