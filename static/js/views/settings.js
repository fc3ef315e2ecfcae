// @ts-check
/** How this browser shows things, the server and its configuration, and help. */
import { byId, h, panel, setText, sheet } from "../dom.js";
import { number, share } from "../format.js";
import { notLoaded, press } from "../ui/dialog.js";
import { exportAccounts, importAccounts } from "./transfer.js";

/** A clock that differs by less does no harm. */
const CLOCK_S = 5;
const ON_OFF = /** @type {const} */ (["on", "off"]);
const UNITS = ["B", "kB", "MB", "GB", "TB"];
const THOUSAND = 1000;

/** @import { App, Instance, Mount, TextKey } from "../types.js" */

/**
 * @typedef {{key: string, value: unknown, place: string | null}} Entry
 * @typedef {{name: string, kind: string, events: string[]}} Target
 * @typedef {{name: string, ok: boolean, latency_ms: number, message: string}} Tested
 * @typedef {{version: string, runtime: string, storage: {data_folder: string, bytes: number,
 *	encryption_key: string | null}, oauth: {ready: boolean, missing: string[]}, notifications: {targets: Target[]},
 *	config: Entry[]}} About
 */

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

/** "1.2 MB" @param {number} bytes */
function size(bytes) {
	const power = Math.min(UNITS.length - 1, Math.floor(Math.log10(Math.max(1, bytes)) / 3));
	return `${Number((bytes / THOUSAND ** power).toPrecision(3))} ${UNITS[power]}`;
}

/**
 * Fills `el`, and `below` with the configuration, once the server has told.
 * @param {App} app
 * @param {HTMLElement} el
 * @param {HTMLElement} below
 */
async function server(app, el, below) {
	const { t } = app;
	try {
		/** @type {About} */
		const about = await app.api("GET", "api/admin/config");
		el.replaceChildren(...panels(app, about));
		below.replaceChildren(
			panel(t("s_config"), h("p.muted", t("s_config_about")), reload(app), configuration(app, about.config)));
	} catch (error) {
		const note = h("p.error.row");
		notLoaded(app, note, error, () => server(app, el, below));
		el.replaceChildren(panel(t("s_server"), note));
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
