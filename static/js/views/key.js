/** Makes a client key, and shows it in full for the only time, or changes one. */
import { h } from "../dom.js";
import { dialog, field } from "../ui/dialog.js";
import { copyable, snippets } from "./connect.js";

const LIMITS = ["requests_per_minute", "concurrent_requests", "tokens_per_day", "tokens_per_month",
	"cost_usd_per_day", "cost_usd_per_month"];

export function edit(app, token) {
	const { t } = app, box = dialog(app, { topic: "tokens", id: token?.id });
	const day = token?.expires_at?.slice(0, 10) ?? "";
	const name = field(t("name"), { value: token?.name, maxlength: 64, required: true });
	const role = h("select", ["user", "admin"].map((value) =>
		h("option", { value, selected: token?.role === value }, t(value))));
	const expires = field(t("key_expires"), { type: "date", value: day }, t("key_zone"));
	const limits = LIMITS.map((limit) => field(t(limit), { type: "number", name: limit, value: token?.limits[limit],
		...(limit.startsWith("cost") ? { min: 0.01, step: "any" } : { min: 1 }) }));

	async function run(ifMatch = token?.etag) {
		if (!name.input.form.reportValidity()) return;
		const until = expires.input.value;
		const [method, path] = token ? ["PUT", `api/tokens/${token.id}`] : ["POST", "api/tokens"];
		const { token: made } = await app.api(method, path, {
			name: name.input.value.trim(), role: role.value,
			limits: Object.fromEntries(limits.map(({ input }) => [input.name, Number(input.value) || null])),
			// The field has no time of day: sent only where it was changed.
			...(until !== day && { expires_at: until ? `${until}T00:00:00Z` : null }),
		}, { ifMatch });
		if (token) {
			app.toast({ text: t("saved", made) });
			return token.id;
		}
		const key = copyable(app, t("client_key"), made.key);
		key.querySelector("button").autofocus = true;
		box.show(t("key_made", made), [h("p", t("key_once")), key,
			h("details", h("summary", t("connect")), snippets(app, made.key))],
		[{ label: t("done"), kind: "primary" }]);
	}

	const label = t(token ? "save" : "create_key");
	box.show(token ? t("edit_key", token) : label, [
		name.el, h("label.field", t("role"), role), expires.el,
		h("details", { open: token && Object.values(token.limits).some(Boolean) },
			h("summary", t("limits")), h("div.tiles.pairs", limits.map(({ el }) => el)))],
	[{ label: t("cancel") }, { label, kind: "primary", run }], name);
}
