// @ts-check
/** The figures of the overview: what is going on, how fast, what it costs, and how much is left. */
import { changeOf } from "../attention.js";
import { h, keyed, panel, setAttr, setText } from "../dom.js";
import { compact, money, ms, number, took } from "../format.js";
import { added, errorsOf, fromCache, requestsOf, tokensOf } from "../usage.js";
import { spark } from "./cells.js";
import { bar, levelOf, nameOf, nextLimited, perCent } from "./quota.js";

const PART = 100;
/** From this part of the requests on, errors stand out. */
const MANY = 0.05;

/** @import { App, Bucket, Capacity, FirstText, Reset, Traffic, Translate } from "../types.js" */

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

/** How much quota the accounts have left together, how long that lasts, who is limited and what is reset next.
 * @param {App} app */
export function capacityPanel(app) {
	const { store, t, now, due } = app;
	const left = h("b", "–");
	const of = h("span.muted");
	const meter = bar();
	const pace = h("p");
	const [who, first] = [h("a"), h("span")];
	const limited = h("p", who, " ", first);
	const next = h("ul.list");
	/** @type {Map<string, ReturnType<typeof make>>} */
	const rows = new Map();

	function make() {
		const [link, text] = [h("a"), h("span")];
		return { el: h("li", link, " ", text), link, text };
	}

	function drawLimited() {
		const found = nextLimited(store.items("accounts").values(), now());
		setAttr(who, "href", found && `#/accounts/${found.account.id}`);
		setText(who, found?.account.name ?? "");
		setText(first, found ? t("c_limited", { window: nameOf(found.window, t), due: due(found.at) }) : t("c_unlimited"));
	}

	/** @param {Reset[]} resets */
	function drawResets(resets) {
		const ahead = resets.filter(({ at }) => ms(at) > now());
		keyed(next, ahead.map(({ account_id: id }) => id), rows, make);
		for (const { account_id: id, name, window, at } of ahead) {
			const row = rows.get(id);
			setAttr(row?.link ?? next, "href", `#/accounts/${id}`);
			setText(row?.link ?? null, name);
			setText(row?.text ?? null, t("c_next", { window: nameOf(window, t), due: due(at) }));
		}
	}

	return {
		el: panel(t("capacity"), h("div.capacity", left, meter.el, of), pace, limited, next),
		/** @param {Capacity | undefined} capacity */
		patch(capacity) {
			if (!capacity) return;
			const { left: part, known: n, accounts, empty_at: empty, resets } = capacity;
			const used = part === null ? null : 1 - part;
			setText(left, part === null ? "–" : t("c_left", { left: perCent(part) }));
			setText(of, part === null ? t("c_unknown") : t("c_of", { n, accounts }));
			setText(pace, empty === null ? "" : t("c_empty", { due: due(empty) }));
			setAttr(pace, "data-kind", levelOf(used)?.kind);
			meter.patch(used);
			limited.hidden = part === null;
			drawLimited();
			drawResets(resets);
		},
	};
}
