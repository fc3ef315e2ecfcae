/** What the cells of tables show. */
import { h, setAttr, setText, svg } from "../dom.js";
import { compact, ms, number, span } from "../format.js";

export const ICON = { invalid: "✕", rate_limited: "◐", active: "●", inactive: "○" };
export const rank = ({ status }) => Object.keys(ICON).indexOf(status);
export const bySeverity = (a, b) => rank(a) - rank(b) || a.name.localeCompare(b.name);

/** One text above a smaller one. */
const two = (...parts) => h("span.two", parts);

/** "● Active for 12m"; it lights up when the status changes. */
export function status({ t, now }) {
	const icon = h("i", { "aria-hidden": "true" }), word = h("b"), since = h("small");
	const el = h("span.status", icon, two(word, since));
	return { el, patch({ status: is, status_since: at }) {
		if (el.dataset.kind && el.dataset.kind !== is) el.classList.add("flash");
		setAttr(el, "data-kind", is);
		setText(icon, ICON[is]);
		setText(word, t(is));
		setText(since, t("for_span", { span: span(now() - ms(at)) }));
	} };
}

/** A sparkline, an ornament: the number beside it is the text. */
export function spark() {
	const path = svg("path"), box = { viewBox: "0 0 80 20", preserveAspectRatio: "none" };
	let drawn;
	return { el: svg("svg.spark", { "aria-hidden": "true", ...box }, path), patch(values) {
		if (values === drawn) return;
		drawn = values;
		const top = Math.max(1, ...values), step = 78 / (values.length - 1);
		const points = values.map((n, at) => [1 + at * step, 18.5 - (17 * n) / top].map((x) => x.toFixed(1)));
		setAttr(path, "d", points[1] && `M${points.join("L")}`);
	} };
}

/** The column of names; `about(item)` is the smaller text. */
export const named = (about, href) => ({ key: "name", sort: ({ name }) => name.toLowerCase(),
	title: ({ name }) => name, cell(td) {
		const name = h(href ? "a" : "b"), small = h("small");
		td.append(two(name, small));
		return (item) => {
			setText(name, item.name);
			setAttr(name, "href", href?.(item));
			setText(small, about(item));
		};
	} });

/** A column of one field. */
export const plain = (key, field, text, more) =>
	({ key, text: (item) => text(item[field], item), sort: (item) => item[field], ...more });

export const DAY = ["requests", "errors", "input_tokens", "output_tokens", "cost_usd"].map((field) => `day.${field}`);

/** Columns of the last 24 h. */
export const usage = (cls) => [{ key: "requests", cls, sort: ({ day }) => day.requests, cell(td) {
	const count = h("span"), line = spark();
	td.append(line.el, count);
	return (item) => (setText(count, number(item.day.requests)), line.patch(item.spark));
} }, { key: "tokens_24h", cls, sort: ({ day }) => day.input_tokens + day.output_tokens,
	text: ({ day }) => `${compact(day.input_tokens)} / ${compact(day.output_tokens)}` }];
