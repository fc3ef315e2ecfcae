// @ts-check
/** The figures of the overview: what is going on, how fast, and what it costs. */
import { changeOf } from "../attention.js";
import { h, setAttr, setText } from "../dom.js";
import { compact, money, number, took } from "../format.js";
import { added, errorsOf, fromCache, requestsOf, tokensOf } from "../usage.js";
import { spark } from "./cells.js";

const PART = 100;
/** From this part of the requests on, errors stand out. */
const MANY = 0.05;

/** @import { App, Bucket, FirstText, Traffic, Translate } from "../types.js" */

/** All but the newest, which has only begun. @param {Bucket[]} minutes */
const whole = (minutes) => minutes.sort((a, b) => a.start - b.start).slice(0, -1);

/** @param {number[]} numbers */
const sum = (numbers) => numbers.reduce((a, b) => a + b, 0);

/** "0.4 %" @param {number} part */
const share = (part) => `${(part * PART).toFixed(1)} %`;

/**
 * Today's cost beside that of yesterday at this time.
 * @param {Traffic} traffic
 * @param {Translate} t
 */
function againstYesterday({ today, yesterday }, t) {
	const change = changeOf(today.cost_usd, yesterday.cost_usd);
	const cost = money(yesterday.cost_usd, yesterday.unpriced_requests);
	if (change === null) return t("cost_yesterday", { cost });
	if (!change) return t("cost_same", { cost });
	return t(change > 0 ? "cost_more" : "cost_less", { part: Math.abs(change), cost });
}

/** @param {App} app */
export function figuresPanel({ store, t }) {
	const lines = { requests_min: spark(), tokens_min: spark() };
	/** @type {Record<string, {much: HTMLElement, more: HTMLElement}>} */
	const made = {};
	/** @type {(key: FirstText, line?: Element, href?: string) => HTMLElement} */
	const figure = (key, line, href) => {
		const parts = { much: h("b", "–"), more: h("small") };
		made[key] = parts;
		return h(href ? "a.figure" : "div.figure", { href }, h("span", t(key)), parts.much, line, parts.more);
	};
	const el = h("div.panel.figures", figure("requests_min", lines.requests_min.el),
		figure("errors_hour", undefined, "#/requests?status=failed"), figure("first_byte"),
		figure("tokens_min", lines.tokens_min.el), figure("cost_today"));

	/** @type {(key: FirstText, much: string, more?: string) => void} */
	const show = (key, much, more = "") => {
		setText(made[key].much, much);
		setText(made[key].more, more);
	};
	return {
		el,
		/** @param {Traffic} traffic */
		patch(traffic) {
			const buckets = [...store.items("usage:1h").values()];
			const [requests, errors] = [requestsOf, errorsOf].map((of) => sum(buckets.map(of)));
			const minutes = whole(buckets);
			const [asked, used] = [requestsOf, tokensOf].map((of) => minutes.map(of));
			const { p50, p95 } = traffic.ttfb_ms;
			lines.requests_min.patch(asked);
			lines.tokens_min.patch(used);
			show("requests_min", number(asked.at(-1)), t("streams", { streams: number(traffic.in_flight) }));
			show("errors_hour", number(errors), t("of_requests", { part: share(requests && errors / requests), requests: compact(requests) }));
			show("first_byte", took(p50), p95 === null ? "" : t("p95", { p95: took(p95) }));
			const cached = fromCache(added(buckets));
			show("tokens_min", compact(used.at(-1)), cached === null ? "" : t("from_cache", { part: share(cached) }));
			show("cost_today", money(traffic.today.cost_usd, traffic.today.unpriced_requests), againstYesterday(traffic, t));
			setAttr(made.errors_hour.much, "data-kind", errors > requests * MANY && "error");
		},
	};
}
