/** The status of an account: its sign, its word, its rank. */
import { h, setAttr, setText } from "../dom.js";
import { ms, span } from "../format.js";

export const ICON = { invalid: "✕", rate_limited: "◐", active: "●", inactive: "○" };
export const SEVERITY = Object.keys(ICON);

export const bySeverity = (a, b) =>
  SEVERITY.indexOf(a.status) - SEVERITY.indexOf(b.status) || a.name.localeCompare(b.name);

/** "● Active for 12m"; it lights up once when the status changes. */
export function status(app) {
  const icon = h("i", { "aria-hidden": "true" }), word = h("b"), since = h("small");
  const el = h("span", { class: "status" }, icon, h("span", { class: "two" }, word, since));
  return {
    el,
    patch({ status: is, status_since: at }, now) {
      if (el.dataset.kind && el.dataset.kind !== is) el.classList.add("flash");
      setAttr(el, "data-kind", is);
      setText(icon, ICON[is]);
      setText(word, app.t(is));
      setText(since, app.t("for_span", { span: span(now - ms(at)) }));
    },
  };
}
