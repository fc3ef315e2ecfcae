// @ts-check
/** Makes a client key, and shows it in full for the only time; changes one, or gives it a new secret. */
import { h } from "../dom.js";
import { confirm, dialog, field, tagsField, typed } from "../ui/dialog.js";
import { copyable, snippets } from "./connect.js";

/** @import { Box, Field } from "../ui/dialog.js" */
/** @import { App, ClientKey } from "../types.js" */

const COUNT = { min: 1 };
/** Any amount: the server says that it has to be above 0. */
const COST = { min: 0, step: "any" };
const LIMITS = /** @type {const} */ ([
	["requests_per_minute", COUNT],
	["concurrent_requests", COUNT],
	["tokens_per_day", COUNT],
	["tokens_per_month", COUNT],
	["cost_usd_per_day", COST],
	["cost_usd_per_month", COST],
]);
const ROLES = /** @type {const} */ (["user", "admin", "metrics"]);
/** How long the former one works, by what that is called. */
const OVERLAPS_S = /** @type {const} */ ([
	["k_overlap_0", 0],
	["k_overlap_1h", 3600],
	["k_overlap_24h", 86_400],
	["k_overlap_7d", 604_800],
	["k_overlap_30d", 2_592_000],
]);
const USUAL_S = 86_400;
/** "2026-01-31" */
const DATE_LENGTH = 10;

/**
 * @param {App} app
 * @param {Partial<ClientKey>} [token] the one to change
 * @param {boolean} limits whether those are what is to be changed
 */
export function edit(app, token, limits = false) {
	const { t } = app;
	const box = dialog(app, { topic: "tokens", id: token?.id });
	const form = formOf(app, token, limits);

	/** @param {string} [ifMatch] */
	async function run(ifMatch = token?.etag) {
		if (!form.valid()) return undefined;
		if (token) {
			const { token: saved } = await app.api("PUT", `api/tokens/${token.id}`, form.values(), { ifMatch });
			app.toast({ text: t("saved", saved) });
			return token.id;
		}
		const { token: made } = await app.api("POST", "api/tokens", form.values());
		return showOnce(app, box, made);
	}

	const label = t(token ? "save" : "create_key");
	box.show(token ? t("edit_what", token) : label, form.content,
		[{ label: t("cancel") }, { label, kind: "primary", run }], form.fields.name, form.fields);
}

/**
 * Shows a key in full: nobody can do that again, so what was not copied is not closed by mistake. It has a dialog of its
 * own, for the `former` may have been left while the server made the key.
 * @param {App} app
 * @param {Box} former
 * @param {ClientKey} made
 */
function showOnce(app, former, made) {
	const { t } = app;
	former.el.close(); // first: this one gives the focus back to what opened that
	const guard = () => copied || confirm(app, { title: t("key_leave"), text: t("key_lost"), label: t("close") });
	const box = dialog(app, { guard });
	const key = copyable(app, t("client_key"), made.key);
	const copy = key.querySelector("button");
	if (copy) copy.autofocus = true;
	const scrapes = made.role === "metrics";
	const help = h("details", h("summary", t(scrapes ? "scrape" : "connect")),
		scrapes ? copyable(app, "prometheus.yml", scrapeConfig(made.key)) : snippets(app, made.key));
	let copied = false;
	box.el.addEventListener("copy", ({ target }) => {
		copied ||= /** @type {Node} */ (target).textContent?.includes(made.key) ?? false;
	});
	box.show(t("key_made", made), [h("p", t("key_once")), key, help], [{ label: t("done"), kind: "primary" }]);
}

/** What makes Prometheus read the metrics. @param {string} key */
const scrapeConfig = (key) => `scrape_configs:
  - job_name: claude-proxy
    scheme: ${location.protocol.slice(0, -1)}
    authorization: {credentials: ${key}}
    static_configs: [{targets: ["${location.host}"]}]`;

/**
 * @param {App} app
 * @param {Partial<ClientKey> | undefined} token
 * @param {boolean} open whether the limits are open
 */
function formOf({ t }, token, open) {
	const day = token?.expires_at?.slice(0, DATE_LENGTH) ?? "";
	const name = field(t("name"), { value: token?.name, maxlength: 64, required: true });
	const role = field(t("role"), {}, t("role_hint"), "select");
	role.input.append(...ROLES.map((value) => h("option", { value, selected: token?.role === value }, t(value))));
	const expires = field(t("key_expires"), { type: "date", value: day }, t("key_zone"));
	const group = field(t("group"), { value: token?.group ?? "", maxlength: 64 }, t("group_hint"));
	const tags = tagsField(t("key_tags"), token?.tags ?? [], t("key_tags_hint"));
	const models = tagsField(t("key_models"), token?.models ?? [], t("key_models_hint"));
	const limits = LIMITS.map(([limit, attributes]) =>
		field(t(limit), { type: "number", name: limit, value: token?.limits?.[limit], ...attributes }));
	const limited = open || Object.values(token?.limits ?? {}).some(Boolean);
	if (open) limits[0].input.autofocus = true;
	/** @type {Record<string, Field>} */
	const fields = { name, role, expires_at: expires, group, tags, models };
	for (const limit of limits) fields[`limits.${limit.input.name}`] = limit;
	const fold = h("details", { open: limited }, h("summary", t("limits")),
		h("div.tiles.pairs", limits.map(({ el }) => el)));

	function values() {
		const until = expires.input.value;
		const result = {
			name: typed(name),
			role: role.input.value,
			group: typed(group) || null,
			tags: tags.read(),
			models: models.read(),
			limits: Object.fromEntries(limits.map(({ input }) => [input.name, input.value === "" ? null : Number(input.value)])),
		};
		// The field has no time of day: sent only if it was changed.
		if (until === day) return result;
		return { ...result, expires_at: until ? `${until}T00:00:00Z` : null };
	}

	/** Shows what is wrong; in what is closed the browser could not. */
	function valid() {
		if (fold.querySelector(":invalid")) fold.open = true;
		return Boolean(name.input.form?.reportValidity());
	}

	return {
		fields,
		values,
		valid,
		content: [[name, role, expires, group, tags, models].map(({ el }) => el), fold],
	};
}

/**
 * @param {App} app
 * @param {ClientKey} token
 */
export function rotate(app, token) {
	const { t } = app;
	const box = dialog(app, { topic: "tokens", id: token.id, conflict: () => t("k_rotated_meanwhile") });
	const overlap = field(t("k_overlap"), {}, t("k_overlap_hint"), "select");
	overlap.input.append(...OVERLAPS_S.map(([text, value]) => h("option", { value, selected: value === USUAL_S }, t(text))));

	/** @param {string} [ifMatch] */
	async function run(ifMatch = token.etag) {
		const body = { overlap: Number(overlap.input.value) };
		const { token: made } = await app.api("POST", `api/tokens/${token.id}/rotate`, body, { ifMatch });
		return showOnce(app, box, made);
	}

	box.show(t("k_rotate_what", token), [h("p", t("k_rotate_text")), overlap.el],
		[{ label: t("cancel") }, { label: t("k_rotate"), kind: "primary", run }], overlap);
}

/**
 * @param {App} app
 * @param {ClientKey} token
 */
export async function endFormer(app, token) {
	const { t } = app;
	const sure = await confirm(app, {
		title: t("k_end_what", token), text: t("k_end_text"), label: t("k_end"), topic: "tokens", ids: [token.id],
	});
	if (!sure) return;
	try {
		await app.api("DELETE", `api/tokens/${token.id}/former_keys`);
		app.toast({ text: t("k_ended", token) });
	} catch (error) {
		app.toast({ text: /** @type {Error} */ (error).message, kind: "error" });
	}
}
