// @ts-check
/** What filters the last requests. The address has the filters; these controls show and change them. */
import { h, setAttr } from "../dom.js";
import { wantedIn } from "../requests.js";
import { TRY } from "../usage.js";
import { folded } from "./menu.js";
import { natural } from "./order.js";

/** @import { App, LoggedRequest, TextKey } from "../types.js" */
/** @import { Wanted } from "../requests.js" */

/** @typedef {[value: string, text: string]} Option */
/** @typedef {"key" | "account" | "model" | "status" | "slow"} Chosen */

/** What each select is called. @type {Record<Chosen, TextKey>} */
const SELECTS = { key: "client_key", account: "account_of", model: "model", status: "rq_result", slow: "rq_slow" };
/** @type {[value: string, text: TextKey][]} */
const STATUSES = [
	["ok", "u_ok"], ["failed", "rq_failed"], ["client_error", "u_client_error"], ["limited", "u_limited"],
	["upstream_error", "u_upstream_error"], ["refused", "u_refused"], ["aborted", "u_aborted"],
];
const SLOW_S = [1, 5, 10, 30, 60];

/** The options of a select as they were filled in. @type {WeakMap<HTMLSelectElement, string>} */
const filled = new WeakMap();

export class Filters {
	/**
	 * `changed` is called with what somebody changes, by the names of filters.
	 * @param {App} app
	 * @param {(change: Record<string, string>) => void} changed
	 */
	constructor(app, changed) {
		const { t } = app;
		this.app = app;
		this.selects = Object.entries(SELECTS).map(([name, label]) => {
			const el = h("select", { name, "aria-label": t(label) });
			el.oninput = () => changed({ [name]: el.value });
			return el;
		});
		this.search = h("input", { type: "search", placeholder: t("rq_search"), "aria-label": t("rq_search") });
		this.search.oninput = () => changed({ search: this.search.value.trim() });
		this.box = h("input", { type: "checkbox" });
		this.box.oninput = () => changed({ retried: this.box.checked ? "true" : "" });
		this.chips = h("div.chips", { hidden: true });
		this.chipsShown = "[]";
		this.fold = folded(t, this.selects, h("label.row", this.box, t("rq_retried")));
		this.els = [this.search, this.fold.els];
		this.offer([]);
	}

	/** Offers the keys and accounts that there are, and the models of these requests. @param {LoggedRequest[]} list */
	offer(list) {
		const { t, store } = this.app;
		const models = new Set(list.map(({ model }) => model ?? "").filter(Boolean));
		/** @type {Record<Chosen, Option[]>} */
		const options = {
			key: named(store.items("tokens")),
			account: named(store.items("accounts")),
			model: [...models].sort(natural).map((model) => [model, model]),
			status: STATUSES.map(([value, text]) => [value, t(text)]),
			slow: SLOW_S.map((s) => [String(s * 1000), t("rq_slower", { n: s })]),
		};
		for (const el of this.selects) {
			const name = /** @type {Chosen} */ (el.name);
			fill(el, t(SELECTS[name]), options[name]);
		}
		this.show(wantedIn(this.app.query()));
	}

	/** Sets the controls to what is wanted. @param {Wanted} wanted */
	show(wanted) {
		for (const el of this.selects) choose(el, wanted[/** @type {Chosen} */ (el.name)]);
		if (this.search.value.trim() !== wanted.search) this.search.value = wanted.search;
		this.box.checked = wanted.retried === "true";
		this.fold.mark(this.box.checked || this.selects.some(({ value }) => value));
		const chips = chipsOf(this.app, wanted);
		const text = JSON.stringify(chips);
		if (this.chipsShown === text) return; // put anew, one would lose the focus
		this.chipsShown = text;
		this.chips.replaceChildren(...chips.map(([names, label]) =>
			h("button", { "data-act": "drop", value: names, "aria-pressed": "true" }, `${label} ✕`)));
		this.chips.hidden = !chips.length;
	}
}

/** @param {Map<string, {id: string, name: string}>} items @returns {Option[]} */
const named = (items) => [...items.values()].map(({ id, name }) => /** @type {Option} */ ([id, name]))
	.sort(([, a], [, b]) => natural(a, b));

/**
 * What is in the address and has no control: a session, a failed try, a span of time. Each with the filters that it stands for.
 * @param {App} app
 * @param {Wanted} wanted
 * @returns {[names: string, text: string][]}
 */
function chipsOf({ t, clock }, { session, failure, from, to }) {
	/** @type {[string, string][]} */
	const chips = [];
	if (session) chips.push(["session", `${t("session_id")} ${session.slice(0, 12)}`]);
	if (failure) chips.push(["failure", t(failure === "any" ? "u_tries" : /** @type {TextKey} */ (`u_${TRY}${failure}`))]);
	const when = (/** @type {string} */ at) => (at ? clock(at, { zone: false, seconds: false }) : "…");
	if (from || to) chips.push(["from to", `${when(from)} – ${when(to)}`]);
	return chips;
}

/**
 * Gives a select its options, the first of which filters nothing. If they are the same they stay: it may be open.
 * @param {HTMLSelectElement} el
 * @param {string} all
 * @param {Option[]} options
 */
function fill(el, all, options) {
	const text = JSON.stringify([all, options]);
	if (filled.get(el) === text) return;
	filled.set(el, text);
	const chosen = el.value;
	el.replaceChildren(...[["", all], ...options].map(([value, label]) => h("option", { value }, label)));
	choose(el, chosen);
}

/**
 * Chooses an option, also one that is not there: of a deleted key, or a model of which nothing is loaded.
 * @param {HTMLSelectElement} el
 * @param {string} value
 */
function choose(el, value) {
	if (el.value !== value) {
		if (![...el.options].some((option) => option.value === value)) el.append(h("option", { value }, value));
		el.value = value;
	}
	setAttr(el, "data-on", value !== "");
}
