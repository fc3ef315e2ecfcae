// @ts-check
/** A row of the last requests. It never changes, but for how its time is told. */
import { h, setText } from "../dom.js";
import { compact, dayMonth, money, timed, took } from "../format.js";
import { endOf, reasonOf } from "../requests.js";
import { tokensIn } from "../usage.js";

/** @import { Child } from "../dom.js" */
/** @import { App, LoggedRequest, Outcome, TextKey, Translate } from "../types.js" */

/** The colour of what it came to. @type {Record<Outcome, string>} */
const KINDS = {
	ok: "ok", client_error: "warn", limited: "warn", refused: "warn", aborted: "warn", upstream_error: "error",
};

const HEADS = /** @type {const} */ (["rq_ended", "client_key", "model", "account_of", "rq_result", "rq_ttfb",
	"rq_duration", "tokens_24h", "u_cost_usd"]);
const NUMBERS = ["rq_ttfb", "rq_duration", "tokens_24h", "u_cost_usd"];

/** @param {Translate} t */
export const requestHeads = (t) => h("tr", { role: "row" }, HEADS.map((key) => h("th", {
	role: "columnheader", scope: "col", class: `c-${key} ${NUMBERS.includes(key) ? "num low" : ""}`,
}, t(key))));

/** @param {LoggedRequest} request */
export const kindOf = ({ outcome }) => KINDS[outcome];

/**
 * "Answered", "Client error", "Cut by the client"
 * @param {LoggedRequest} request
 * @param {Translate} t
 */
export const resultOf = ({ outcome, cut_by: by }, t) => t(by ? `rq_cut_${by}` : `rq_was_${outcome}`);

/** "team-a 429 → team-b 200" @param {LoggedRequest} request */
export const triesOf = ({ tries }) =>
	tries.map(({ account_name: name, status, verdict }) => `${name} ${status || verdict || "–"}`).join(" → ");

/** @param {LoggedRequest} request */
export const costOf = ({ input_tokens: used, cost_usd: usd }) => (used === null ? "–" : money(usd));

/**
 * @param {App} app
 * @param {LoggedRequest} request
 */
export function requestRow(app, request) {
	const { t } = app;
	const why = reasonOf(request);
	const reason = why && timed(why, app.clock);
	/** @type {(key: TextKey, cls: string, title: string, ...content: Child[]) => HTMLElement} */
	const cell = (key, cls, title, ...content) => h("td", {
		role: "cell", class: `c-${key} ${cls}`, title: title || null, "data-label": t(key),
	}, content);
	/** @type {(text: string, small: string) => HTMLElement} */
	const two = (text, small) => h("span.two", h("span", text), h("small", small));
	const { tries, output_tokens: out, cache_read_input_tokens: cached } = request;
	const time = h("a", { href: `#/requests/${request.request_id}` });
	const day = h("small");
	const retries = tries.length > 1 ? t("rq_tries", { n: tries.length }) : "";
	const tokens = out === null ? "–" : `${compact(tokensIn(request))} / ${compact(out)}`;
	const el = h("tr", { role: "row", tabindex: -1, "data-kind": kindOf(request) },
		h("th.c-rq_ended", { role: "rowheader", scope: "row", title: request.request_id, "data-label": t("rq_ended") }, h("span.two", time, day)),
		cell("client_key", "", request.key_name, request.key_name),
		cell("model", "", request.model ?? request.path, request.model ?? request.path),
		cell("account_of", "", triesOf(request), two(request.account_name ?? "–", retries)),
		cell("rq_result", "", reason ?? resultOf(request, t),
			h("span.result", two(String(request.status || "–"), resultOf(request, t)))),
		cell("rq_ttfb", "num low", "", took(request.ttfb_ms)),
		cell("rq_duration", "num low", "", took(request.duration_ms)),
		cell("tokens_24h", "num low", "", two(tokens, cached ? t("rq_cached", { n: compact(cached) }) : "")),
		cell("u_cost_usd", "num low", "", costOf(request)));
	/** The day has a line of its own, if it is not today: beside the time there would be no room for both. */
	function tick() {
		const at = endOf(request);
		const clock = app.clock(at, { zone: false, now: 0 });
		setText(time, clock);
		setText(day, app.clock(at, { zone: false }) === clock ? "" : dayMonth(at, app.settings.get("time") === "utc"));
	}
	tick();
	return { el, tick };
}
