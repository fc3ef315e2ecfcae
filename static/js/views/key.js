// @ts-check
/** The dialog that makes a client key, and shows it in full for the only time, or changes one. */
import { h } from "../dom.js";
import { confirm, dialog, field } from "../ui/dialog.js";
import { copyable, snippets } from "./connect.js";

export const LIMITS = ["requests_per_minute", "concurrent_requests", "tokens_per_day", "tokens_per_month",
  "cost_usd_per_day", "cost_usd_per_month"];
export const isCost = (limit) => limit.startsWith("cost");

/** Without `token` it makes one; else `token` is as it was when the dialog opened. */
export function edit(app, token) {
  const { t } = app;
  let made = false;
  const leave = { title: t("tokens.leave"), text: t("tokens.once"), label: t("close") };
  const box = dialog(app, { topic: "tokens", id: token?.id, guard: () => !made || confirm(app, leave) });
  const at = token?.expires_at && new Date(token.expires_at);
  const before = at ? new Date(at - at.getTimezoneOffset() * 60_000).toISOString().slice(0, 16) : "";
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const name = field(t("name"), { value: token?.name, maxlength: 64, required: true });
  const role = h("select", null, ["user", "admin"].map((value) =>
    h("option", { value, selected: token?.role === value }, t(`tokens.${value}`))));
  const expires = field(t("tokens.expires"), { type: "datetime-local", value: before },
    t("tokens.zone", { zone }));
  const models = field(t("tokens.models"), { value: token?.models.join(", ") }, t("tokens.models_hint"));
  const limits = LIMITS.map((limit) => field(t(`tokens.${limit}`), {
    type: "number", value: token?.limits[limit], ...(isCost(limit) ? { min: 0.000001, step: "any" } : { min: 1 }),
  }));
  const values = ({ value: at } = expires.input) => ({
    name: name.input.value.trim(), role: role.value,
    models: models.input.value.split(/[\s,]+/).filter(Boolean),
    limits: Object.fromEntries(limits.map(({ input }, n) => [LIMITS[n], Number(input.value) || null])),
    // The field has no seconds, so it is sent only where it was changed.
    ...(at !== before && { expires_at: at ? new Date(at).toISOString() : null }),
  });

  async function run(ifMatch = token?.etag) {
    const fields = [name, expires, models, ...limits];
    const wrong = fields.find(({ input }) => !input.checkValidity());
    for (const { tell } of fields) tell();
    if (wrong) return wrong.fail(wrong.input.validationMessage);
    const answer = await (token ? app.api("PUT", `api/tokens/${token.id}`, values(), { ifMatch })
      : app.api("POST", "api/tokens", values()));
    if (!token) return show(answer.token);
    app.toast({ text: t("tokens.saved", answer.token) });
    return token.id;
  }

  function show({ name: called, key }) {
    made = true;
    box.show(t("tokens.made", { name: called }), [h("p", null, t("tokens.once")),
      copyable(app, t("client_key"), key), snippets(app, key)], [{ label: t("tokens.done"), kind: "primary" }]);
    box.el.querySelector("button").focus();
  }

  const label = t(token ? "tokens.save" : "tokens.create");
  box.show(token ? t("tokens.edit_one", token) : label, [
    name.el, h("label", { class: "field" }, t("tokens.role"), role), expires.el, models.el,
    h("details", { open: token && LIMITS.some((limit) => token.limits[limit]) },
      h("summary", null, t("tokens.limits")), h("div", { class: "pairs" }, limits.map(({ el }) => el)))],
  [{ label: t("cancel") }, { label, kind: "primary", run }], name);
}
