// @ts-check
/** Makes a client key, and shows it in full for the only time, or changes one. */
import { h } from "../dom.js";
import { dialog, field, typed } from "../ui/dialog.js";
import { tagsField } from "../ui/tags.js";
import { copyable, snippets } from "./connect.js";

/** @import { App, ClientKey } from "../types.js" */

const COUNT = { min: 1 };
const COST = { min: 0.01, step: "any" };
const LIMITS = /** @type {const} */ ([
	["requests_per_minute", COUNT],
	["concurrent_requests", COUNT],
	["tokens_per_day", COUNT],
	["tokens_per_month", COUNT],
	["cost_usd_per_day", COST],
	["cost_usd_per_month", COST],
]);
const ROLES = /** @type {const} */ (["user", "admin"]);
/** "2026-01-31" */
const DATE_LENGTH = 10;

/**
 * @param {App} app
 * @param {ClientKey} [token] the one to change
 */
export function edit(app, token) {
	const { t } = app;
	const box = dialog(app, { topic: "tokens", id: token?.id });
	const form = formOf(app, token);

	/** @param {string} [ifMatch] */
	async function run(ifMatch = token?.etag) {
		if (!form.valid()) return undefined;
		if (token) {
			const { token: saved } = await app.api("PUT", `api/tokens/${token.id}`, form.values(), { ifMatch });
			app.toast({ text: t("saved", saved) });
			return token.id;
		}
		const { token: made } = await app.api("POST", "api/tokens", form.values());
		return show(made);
	}

	/** @param {ClientKey} made */
	function show(made) {
		const key = copyable(app, t("client_key"), made.key);
		const copy = key.querySelector("button");
		if (copy) copy.autofocus = true;
		const help = h("details", h("summary", t("connect")), snippets(app, made.key));
		box.show(t("key_made", made), [h("p", t("key_once")), key, help], [{ label: t("done"), kind: "primary" }]);
	}

	const label = t(token ? "save" : "create_key");
	box.show(token ? t("edit_what", token) : label, form.content,
		[{ label: t("cancel") }, { label, kind: "primary", run }], form.name);
}

/**
 * @param {App} app
 * @param {ClientKey | undefined} token
 */
function formOf({ t }, token) {
	const day = token?.expires_at?.slice(0, DATE_LENGTH) ?? "";
	const name = field(t("name"), { value: token?.name, maxlength: 64, required: true });
	const role = h("select", ROLES.map((value) => h("option", { value, selected: token?.role === value }, t(value))));
	const expires = field(t("key_expires"), { type: "date", value: day }, t("key_zone"));
	const group = field(t("group"), { value: token?.group ?? "", maxlength: 64 }, t("group_hint"));
	const tags = tagsField(t("key_tags"), token?.tags ?? [], t("key_tags_hint"));
	const limits = LIMITS.map(([limit, attributes]) =>
		field(t(limit), { type: "number", name: limit, value: token?.limits[limit], ...attributes }));
	const limited = token !== undefined && Object.values(token.limits).some(Boolean);

	function values() {
		const until = expires.input.value;
		const result = {
			name: typed(name),
			role: role.value,
			group: typed(group) || null,
			tags: tags.read(),
			limits: Object.fromEntries(limits.map(({ input }) => [input.name, Number(input.value) || null])),
		};
		// The field has no time of day: sent only if it was changed.
		if (until === day) return result;
		return { ...result, expires_at: until ? `${until}T00:00:00Z` : null };
	}

	return {
		name,
		values,
		valid: () => Boolean(name.input.form?.reportValidity()),
		content: [
			name.el,
			h("label.field", t("role"), role),
			expires.el,
			group.el,
			tags.el,
			h("details", { open: limited }, h("summary", t("limits")),
				h("div.tiles.pairs", limits.map(({ el }) => el))),
		],
	};
}
