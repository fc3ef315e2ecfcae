// @ts-check
/** What the cells of tables show. */
import { h, setAttr, setText, svg } from "../dom.js";
import { compact, money, ms, number, span } from "../format.js";
import { natural } from "./order.js";
import { TOKENS, tokensIn, tokensOf } from "../usage.js";

/** @import { Account, AccountStatus, App, TextKey, Translate, Usage } from "../types.js" */
/** @import { Column } from "./table.js" */

/** In order of severity. @type {Record<AccountStatus, string>} */
export const ICON = { invalid: "✕", rate_limited: "◐", active: "●", inactive: "○" };

/** @param {{status: AccountStatus}} item */
export const rank = ({ status }) => Object.keys(ICON).indexOf(status);

/** @type {(a: Account, b: Account) => number} */
export const bySeverity = (a, b) => rank(a) - rank(b) || natural(a.name, b.name);

/**
 * "6 requests, 1 error · 12.4K tokens in, 900 out · $0.12"
 * @param {Usage} day
 * @param {Translate} t
 */
export function dayOf(day, t) {
	const count = (/** @type {TextKey} */ key, /** @type {number} */ n) => t(key, { n, much: number(n) });
	return t("a_used", {
		requests: count("a_requests", day.requests),
		errors: count("a_errors", day.errors),
		in: compact(tokensIn(day)),
		out: compact(day.output_tokens),
		cost: money(day.cost_usd, day.unpriced_requests),
	});
}

/** One text above a smaller one. @param {HTMLElement[]} parts */
const two = (...parts) => h("span.two", parts);

/** "● Active for 12m"; it lights up when the status changes. @param {App} app */
export function status({ t, now }) {
	const icon = h("i", { "aria-hidden": "true" });
	const word = h("b");
	const since = h("small");
	const el = h("span.status", icon, two(word, since));
	return {
		el,
		/** @param {Account} account */
		patch({ status: is, status_since: at }) {
			if (el.dataset.kind && el.dataset.kind !== is) el.classList.add("flash");
			setAttr(el, "data-kind", is);
			setText(icon, ICON[is]);
			setText(word, t(is));
			setText(since, t("for_span", { span: span(now() - ms(at)) }));
		},
	};
}

const SPARK_WIDTH = 80;
const SPARK_HEIGHT = 20;
const SPARK_MARGIN = 1;
const SPARK_BASE = 18.5;
const SPARK_RISE = 17;

/** A sparkline, an ornament: the number beside it is the text. */
export function spark() {
	const path = svg("path");
	const viewBox = `0 0 ${SPARK_WIDTH} ${SPARK_HEIGHT}`;
	/** @type {number[] | undefined} */
	let drawn;
	return {
		el: svg("svg.spark", { "aria-hidden": "true", viewBox, preserveAspectRatio: "none" }, path),
		/** @param {number[]} values */
		patch(values) {
			if (values === drawn) return;
			drawn = values;
			setAttr(path, "d", values.length > 1 && `M${points(values).join("L")}`);
		},
	};
}

/** @param {number[]} values */
function points(values) {
	const most = Math.max(1, ...values);
	const step = (SPARK_WIDTH - 2 * SPARK_MARGIN) / (values.length - 1);
	return values.map((n, at) => {
		const x = SPARK_MARGIN + at * step;
		const y = SPARK_BASE - (SPARK_RISE * n) / most;
		return `${x.toFixed(1)},${y.toFixed(1)}`;
	});
}

/**
 * The column of names; `about(item)` is the smaller text.
 * @template {{name: string}} Item
 * @param {(item: Item) => string} about
 * @param {(item: Item) => string} [href]
 * @returns {Column<Item>}
 */
export const named = (about, href) => ({
	key: "name",
	sort: ({ name }) => name,
	title: ({ name }) => name,
	cell(td) {
		const name = h(href ? "a" : "b");
		const small = h("small");
		td.append(two(name, small));
		return (item) => {
			setText(name, item.name);
			setAttr(name, "href", href?.(item));
			setText(small, about(item));
		};
	},
});

/**
 * A column of one field.
 * @template Item
 * @template {keyof Item} Name
 * @param {TextKey} key
 * @param {Name} field
 * @param {(value: Item[Name], item: Item) => string} text
 * @param {Partial<Column<Item>>} [more]
 * @returns {Column<Item>}
 */
export const plain = (key, field, text, more) => ({
	key,
	text: (item) => text(item[field], item),
	sort: (item) => item[field],
	...more,
});

/** The fields of the last 24 h, for exports. */
export const DAY = ["requests", "errors", ...TOKENS, "cost_usd", "unpriced_requests"].map((field) => `day.${field}`);

/**
 * Columns of the last 24 h.
 * @template {{day: Usage, spark: number[]}} Item
 * @param {string} cls
 * @returns {Column<Item>[]}
 */
export const usage = (cls) => [
	{
		key: "requests_24h",
		cls,
		sort: ({ day }) => day.requests,
		cell(td) {
			const count = h("span");
			const line = spark();
			td.append(line.el, count);
			return (item) => {
				setText(count, number(item.day.requests));
				line.patch(item.spark);
			};
		},
	},
	{
		key: "tokens_24h",
		cls,
		sort: ({ day }) => tokensOf(day),
		text: ({ day }) => `${compact(tokensIn(day))} / ${compact(day.output_tokens)}`,
	},
];
