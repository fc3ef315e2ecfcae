// @ts-check
/** Adds an account, by a Console API key or an OAuth login, or authorises one anew: a dialog in steps. */
import { h, setText } from "../dom.js";
import { duration, ms } from "../format.js";
import { confirm, dialog, field, press, whileThere } from "../ui/dialog.js";
import { copy } from "./connect.js";

/** Resolves with the id of the account, or null; `id` is that of one to authorise anew. */
export async function wizard(app, id) {
  await app.css("account");
  const { t, store } = app, accounts = store.items("accounts");
  const name = field(t("name"), { maxlength: 64 });
  const key = field(t("w_key"), { type: "password" }, t("w_key_hint"));
  const paste = field(t("w_paste"), { spellcheck: "false" });
  const left = h("p", { class: "muted" });
  const cancel = { label: t("cancel") };
  let oauth = Boolean(id);
  /** The login that is waited for. @type {any} */
  let flow = null;
  const box = dialog(() => !flow || confirm(app, { title: t("w_leave"), text: t("w_lost"), label: t("w_stop") }));

  /** Steps count from 1, and from the last one down to 0. */
  function show(step, content, ...buttons) {
    const of = oauth && !id ? 3 : 2;
    box.show(t(id ? "w_again" : "w_title", { ...accounts.get(id), step: step > 0 ? 1 : of + step, of }), content, buttons);
  }

  function choose() {
    const radio = (value, checked) => h("label", null,
      h("input", { type: "radio", name: "kind", value, checked, autofocus: checked }), t(`w_${value}`));
    const kinds = h("fieldset", null, h("legend", null, t("w_how")), radio("api_key", !oauth), radio("oauth", oauth));
    kinds.onchange = () => ((oauth = !oauth), choose());
    setText(name.note, oauth ? t("w_optional") : "");
    const go = oauth ? { label: t("w_link"), run: link } : { label: t("add_account"), run: addKey };
    show(1, [kinds, name.el, !oauth && key.el], cancel, { ...go, kind: "primary" });
  }

  /** Shows an error where it was made, with a way on. */
  function failed({ type, message, details = {} }) {
    if (type === "name_taken") {
      if (paste.el.isConnected) paste.el.before(name.el);
      return name.fail(message);
    }
    const other = accounts.get(details.account_id), anew = { label: t("w_anew"), run: link };
    const help = {
      flow_expired: anew, invalid_grant: anew, access_denied: anew,
      upstream_unreachable: paste.input.value && { label: t("w_retry"), run: finish },
      duplicate_org: other && { label: t("w_instead", other), run() {
        id = other.id;
        return paste.input.value ? finish() : link();
      } },
    }[type];
    const own = t(`e_${type}`, { ...flow, ...other });
    setText(paste.note, "");
    (paste.el.isConnected ? paste : oauth ? name : key).fail(own === `e_${type}` ? message : own, ...(help ? [help] : []));
  }

  function send(work) {
    for (const { tell } of [name, key, paste]) tell();
    return work().catch(failed);
  }

  async function addKey() {
    const [called, secret] = [name, key].map(({ input }) => input.value.trim());
    if (!called || !secret) return (called ? key : name).fail(t("w_needed"));
    await send(async () => result(await app.api("POST", "api/accounts", { name: called, type: "api_key", api_key: secret })));
  }

  const link = () => send(async () => {
    const query = new URLSearchParams(id ? { account_id: id } : { name: name.input.value });
    const begun = await app.api("GET", `oauth/authorize?${query}`);
    const url = new URL(begun.authorization_url), { host } = url;
    const said = h("p", { role: "status" });
    const open = h("a", { class: "primary", href: url, target: "_blank", rel: "noopener", autofocus: true }, t("w_open", { host }));
    const take = press({ label: t("w_copy"), async run() {
      setText(said, url.href);
      if (await copy(said)) setText(said, t("w_copied"));
    } });
    const back = url.searchParams.get("redirect_uri")?.startsWith(location.origin);
    flow = { ...begun, host };
    show(-1, [h("p", null, t("w_sign_in", flow)),
      h("div", { class: "row" }, open, take, press({ label: t("w_renew"), run: link }), said), left,
      back && h("p", { role: "status" }, t("w_waiting", flow)), paste.el],
    cancel, { label: t("w_finish"), kind: "primary", run: finish });
    tick();
  });

  /** What is wrong with what was pasted: a code, `code#state`, or the address that the browser was sent back to. */
  function wrong() {
    const pasted = paste.input.value.replace(/\s/g, "");
    const query = new URLSearchParams(/\?([^#]*)/.exec(pasted)?.[1] ?? `code=${pasted.replace("#", "&state=")}`);
    const code = query.get("code") ?? "", state = query.get("state");
    if (query.get("error") === "access_denied") return "access_denied";
    if (/^\d{6}$/.test(code)) return "six_digits";
    if (code.length < 8) return "code_missing";
    return state && state !== flow.state ? "state_mismatch" : "";
  }

  paste.input.oninput = () => {
    const type = wrong();
    paste.tell(paste.input.value && type && t(`e_${type}`, flow));
    setText(paste.note, type ? "" : t("w_fits"));
  };

  async function finish() {
    const type = wrong(), body = { code: paste.input.value, state: flow.state, name: name.input.value.trim() || null };
    if (type) return failed({ type });
    await send(async () => result(await app.api("POST", id ? `api/accounts/${id}/reauthorize` : "oauth/exchange", body)));
  }

  function result({ account }) {
    const facts = [t(id ? "w_renewed" : "w_added", account), account.organization_name && t("w_org", account),
      account.expires_at && t("w_expires", { left: duration(ms(account.expires_at) - app.now() + 30_000) })];
    flow = null;
    show(0, h("p", { role: "status" }, facts.filter(Boolean).join(" · ")),
      ...(id ? [] : [{ label: t("w_another"), value: "another" }]), { label: t("close"), kind: "primary", value: account.id });
  }

  function tick() {
    const still = flow && Math.max(0, ms(flow.expires_at) - app.now());
    const clock = flow && new Date(still).toISOString().slice(14, 19).replace(/^0/, "");
    setText(left, still ? t("w_left", { left: clock }) : t("e_flow_expired"));
  }

  const timer = setInterval(tick, 1000);
  box.life.signal.onabort = () => clearInterval(timer);
  store.watch(() => {
    const now = flow && store.items("flows").get(flow.flow_id), account = accounts.get(now?.account_id);
    if (now?.status === "done" && account) result({ account });
    // What is wrong with a code that was pasted is answered to who pasted it.
    if (now?.status !== "failed" || flow.failed === now.error_message || paste.input.value) return;
    flow.failed = now.error_message;
    failed({ type: now.error_type, message: now.error_message, details: now });
  }, box.life.signal);
  if (id) {
    show(-1, paste.el, cancel);
    whileThere(app, "accounts", id, box);
    await link();
  } else choose();
  const done = await box.closed;
  return done === "another" ? wizard(app) : done;
}
