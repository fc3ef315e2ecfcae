// @ts-check
/** What the server is and how it is configured, as panels; and its notifications and accounts, to be tested and moved. */
import { h, panel } from "../dom.js";
import { press } from "../ui/dialog.js";
import { sheet } from "../ui/sheet.js";
import { exportAccounts, importAccounts } from "./transfer.js";

/** @import { App } from "../types.js" */

/**
 * @typedef {{key: string, value: unknown, place: string | null}} Entry
 * @typedef {{name: string, kind: string, events: string[]}} Target
 * @typedef {{name: string, ok: boolean, latency_ms: number, message: string}} Tested
 * @typedef {{version: string, runtime: string, storage: {data_folder: string, bytes: number,
 *	encryption_key: string | null}, oauth: {ready: boolean, missing: string[]}, notifications: {targets: Target[]},
 *	config: Entry[]}} About
 */

const UNITS = ["B", "kB", "MB", "GB", "TB"];
const THOUSAND = 1000;

/** "1.2 MB" @param {number} bytes */
export function size(bytes) {
	const power = Math.min(UNITS.length - 1, Math.floor(Math.log10(Math.max(1, bytes)) / 3));
	return `${Number((bytes / THOUSAND ** power).toPrecision(3))} ${UNITS[power]}`;
}

/**
 * Fills `el`, and `below` with the configuration, once the server has told.
 * @param {App} app
 * @param {HTMLElement} el
 * @param {HTMLElement} below
 */
export async function server(app, el, below) {
	const { t } = app;
	try {
		/** @type {About} */
		const about = await app.api("GET", "api/admin/config");
		el.replaceChildren(...panels(app, about));
		below.replaceChildren(
			panel(t("s_config"), h("p.muted", t("s_config_about")), reload(app), configuration(app, about.config)));
	} catch (error) {
		const retry = press({ label: t("retry"), run: () => server(app, el, below) });
		const { message } = /** @type {Error} */ (error);
		el.replaceChildren(panel(t("s_server"), h("p.error.row", `${t("not_loaded")} ${message}`, retry)));
	}
}

/**
 * @param {App} app
 * @param {About} about
 */
function panels(app, about) {
	const { t } = app;
	return [
		panel(t("s_server"), facts(app, about)),
		panel(t("s_notifications"), notifications(app, about.notifications.targets)),
		panel(t("s_move"), h("p.muted", t("s_move_about")), h("div.row",
			press({ label: t("s_export"), "data-write": "", run: () => exportAccounts(app) }),
			press({ label: t("s_import"), "data-write": "", run: () => importAccounts(app) }))),
	];
}

/**
 * @param {App} app
 * @param {About} about
 */
function facts({ t, clock, store }, { version, runtime, storage, oauth }) {
	const encrypted = storage.encryption_key;
	const started = store.items("stats").get("health")?.started_at;
	/** @type {[string, string][]} */
	const lines = [
		[t("s_version"), `Claude Proxy ${version}`],
		[t("s_runtime"), runtime],
		...(started ? [/** @type {[string, string]} */ ([t("s_started"), clock(started)])] : []),
		[t("s_folder"), storage.data_folder],
		[t("s_size"), size(storage.bytes)],
		[t("s_encryption"), encrypted ? t("s_encrypted", { key: encrypted }) : t("s_plain")],
		[t("w_oauth_short"), oauth.ready ? t("s_oauth_ready") : t("s_oauth_missing", { keys: oauth.missing.join(", ") })],
	];
	return h("dl.facts", lines.map(([name, text]) => [h("dt", name), h("dd", text)]));
}

/**
 * @param {App} app
 * @param {Target[]} targets
 */
function notifications(app, targets) {
	const { t } = app;
	if (!targets.length) return [h("p.muted", t("s_no_target"))];
	const said = h("div", { role: "status" });
	const run = async () => {
		said.replaceChildren();
		try {
			/** @type {{targets: Tested[]}} */
			const tested = await app.api("POST", "api/admin/notifications/test");
			const lines = tested.targets.map(({ name, ok, message, latency_ms }) =>
				h(ok ? "li" : "li.error", t(ok ? "s_sent" : "s_not_sent", { name, message, latency_ms })));
			said.replaceChildren(h("ul.list", lines));
		} catch (error) {
			said.replaceChildren(h("p.error", /** @type {Error} */ (error).message));
		}
	};
	const lines = targets.map(({ name, kind, events }) => [h("dt", name), h("dd", `${kind}: ${events.join(", ")}`)]);
	return [h("dl.facts", lines), press({ label: t("s_test"), "data-write": "", run }), said];
}

/** Reads the file again, and says what differs from what is in effect. @param {App} app */
function reload(app) {
	const { t } = app;
	const said = h("div", { role: "status" });
	const run = async () => {
		try {
			/** @type {{changed: (Entry & {applied: boolean})[]}} */
			const { changed } = await app.api("POST", "api/admin/reload");
			const lines = changed.map(({ key, value, place, applied }) => {
				const about = { key, value: written(value), place: place ?? t("s_default") };
				return h("li", t(applied ? "s_applied" : "s_restart", about));
			});
			said.replaceChildren(lines.length ? h("ul.list", lines) : h("p", t("s_same")));
		} catch (error) {
			said.replaceChildren(h("p.error", /** @type {Error} */ (error).message));
		}
	};
	return h("div", press({ label: t("s_reload"), "data-write": "", run }), said);
}

/**
 * What is set here, and behind it the defaults.
 * @param {App} app
 * @param {Entry[]} entries
 */
function configuration({ t }, entries) {
	const heads = [t("s_key"), t("s_value"), t("s_place")];
	/** @type {(label: string, some: Entry[]) => HTMLElement} */
	const table = (label, some) => {
		const made = sheet(label, heads);
		made.el.classList.add("config");
		made.fill(some.map(({ key, value, place }) => [key, [key, written(value), place ?? t("s_default")]]));
		return made.el;
	};
	const defaults = entries.filter(({ place }) => place === null);
	const label = t("s_defaults", { n: defaults.length });
	return [
		table(t("s_config"), entries.filter(({ place }) => place !== null)),
		h("details", h("summary", label), table(label, defaults)),
	];
}

/** @param {unknown} value */
function written(value) {
	if (Array.isArray(value)) return value.join(", ") || "–";
	return value === null ? "–" : String(value);
}
