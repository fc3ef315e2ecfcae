/** The status of an account: its sign, its word, its rank. */
import { h, setAttr, setText } from "../dom.js";
import { ms, span } from "../format.js";

export const ICON = { invalid: "✕", rate_limited: "◐", active: "●", inactive: "○" };
export const rank = ({ status }) => Object.keys(ICON).indexOf(status);
export const bySeverity = (a, b) => rank(a) - rank(b) || a.name.localeCompare(b.name);

/** "● Active for 12m"; it lights up once when the status changes. */
export function status({ t, now }) {
	const icon = h("i", { "aria-hidden": "true" }), word = h("b"), since = h("small");
	const el = h("span", { class: "status" }, icon, h("span", { class: "two" }, word, since));
	return { el, patch({ status: is, status_since: at }) {
		if (el.dataset.kind && el.dataset.kind !== is) el.classList.add("flash");
		setAttr(el, "data-kind", is);
		setText(icon, ICON[is]);
		setText(word, t(is));
		setText(since, t("for_span", { span: span(now() - ms(at)) }));
	} };
}
