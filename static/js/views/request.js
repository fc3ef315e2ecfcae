// @ts-check
/** One request: what it came to, and why; its tries on a line of time. */
import { h, panel, setText, svg } from "../dom.js";
import { compact, number, timed, took } from "../format.js";
import { endOf, reasonOf } from "../requests.js";
import { notLoaded } from "../ui/dialog.js";
import { costOf, kindOf, resultOf } from "../ui/request_row.js";
import { copyButton } from "./connect.js";
import { tokensIn } from "../usage.js";

/** The line of time is stretched to the place that there is. */
const WIDTH = 1000;
const HEIGHT = 8;
/** What takes no time is seen all the same. */
const LEAST = 4;
const GOOD_STATUS = 400;

/** @import { Child } from "../dom.js" */
/** @import { App, LoggedRequest, Mount, TextKey, Translate, Try } from "../types.js" */

/** @type {Mount} */
export default function mount(root, app, id = "") {
	const { t, store } = app;
	const title = h("h2", { tabindex: -1 }, t("rq_asked"));
	const note = h("p", { role: "alert", hidden: true });
	const body = h("div.account");
	root.append(h("a.back", { href: "#/requests" }, `← ${t("requests")}`), title, note, body);
	/** The server's run that it is of. @type {string | null} */
	let epoch = null;

	async function load() {
		epoch = store.epoch;
		try {
			const { request } = await app.api("GET", `api/admin/requests/${encodeURIComponent(id)}`);
			setText(title, `${request.method} ${request.path}`);
			note.hidden = true;
			body.replaceChildren(result(app, request), facts(app, request), timeLine(app, request));
		} catch (error) {
			if (body.firstChild) return; // it is told still, after a restart
			note.hidden = false;
			if (/** @type {import("../api.js").Failure} */ (error).status === 404) note.replaceChildren(t("rq_none"));
			else notLoaded(app, note, error, load);
		}
	}

	return {
		patch() {
			if (store.epoch !== null && store.epoch !== epoch) load();
		},
	};
}

/**
 * What it came to, in a line.
 * @param {App} app
 * @param {LoggedRequest} request
 */
function result({ t, clock }, request) {
	const { status } = request;
	const reason = reasonOf(request);
	return h("div.row", { "data-kind": kindOf(request) },
		h("b.result", `${status || "–"} ${resultOf(request, t)}`), reason && h("span", timed(reason, clock)));
}

/**
 * @param {string} text
 * @param {string | null} href
 */
const link = (text, href) => (href ? h("a", { href }, text) : text);

/**
 * An id, with a button that copies it.
 * @param {App} app
 * @param {string} id
 */
function copyableId(app, id) {
	const text = h("code", id);
	const button = copyButton(app, text);
	button.ariaLabel = app.t("copy_what", { what: id });
	return h("span", text, " ", button);
}

/**
 * @param {App} app
 * @param {LoggedRequest} request
 */
function facts(app, request) {
	const { t } = app;
	const { account_id: account, key_id: key, session_id: session, why, moved, upstream_request_id: id } = request;
	/** @type {[TextKey, Child][]} */
	const lines = [
		["rq_began", app.clock(request.at)],
		["rq_ended", app.clock(endOf(request))],
		["client_key", link(request.key_name, `#/requests?key=${key}`)],
		["session_id", session && link(session, `#/requests?session=${session}`)],
		["model", request.model],
		["account_of", account && link(request.account_name ?? account, `#/accounts/${account}`)],
		["rq_why", account && t(/** @type {TextKey} */ (`y_${why ?? "new"}`))],
		["rq_moved", moved && t(/** @type {TextKey} */ (`m_${moved}`)).trim()],
		["rq_ttfb", took(request.ttfb_ms)],
		["rq_duration", took(request.duration_ms)],
		["u_tokens", tokens(request, t)],
		["u_cost_usd", request.input_tokens !== null && costOf(request)],
		["rq_size", `${t("rq_bytes", { n: number(request.answer_bytes) })}, ${t(request.stream ? "rq_stream" : "rq_whole")}`],
		["rq_instance", request.instance],
		["rq_id", copyableId(app, request.request_id)],
		["rq_upstream_id", id && copyableId(app, id)],
	];
	return panel(t("rq_facts"), h("dl.facts", lines.map(([name, content]) =>
		content && h("div", h("dt", t(name)), h("dd", content)))));
}

/**
 * @param {LoggedRequest} request
 * @param {Translate} t
 */
function tokens(request, t) {
	if (request.input_tokens === null) return null;
	const { output_tokens, cache_creation_input_tokens: written, cache_read_input_tokens: read } = request;
	const parts = [
		t("rq_tokens", { in: compact(tokensIn(request)), out: compact(output_tokens) }),
		written && t("rq_written", { n: compact(written) }),
		read && t("rq_read", { n: compact(read) }),
		request.estimated && t("rq_estimated"),
	];
	return parts.filter(Boolean).join(", ");
}

/**
 * The tries, one below the other, and what passed to the client.
 * @param {App} app
 * @param {LoggedRequest} request
 */
function timeLine({ t, clock }, request) {
	const { tries, ttfb_ms: first, duration_ms: whole } = request;
	/** @type {(kind: string, at_ms: number, ms: number, what: Child, ...more: Child[]) => HTMLElement} */
	const line = (kind, at_ms, ms, what, ...more) => h("li", { "data-kind": kind },
		h("div.row", what, h("small", t("rq_at", { at: took(at_ms), took: took(ms) }))), more, bar(at_ms, ms, whole));
	const lines = tries.map((tried) => line(kindOfTry(tried), tried.at_ms, tried.ms, headOf(tried, t),
		tried.evidence !== String(tried.status) && h("p.muted", timed(tried.evidence, clock)), h("p", h("code", tried.request_id))));
	const answer = first !== null && line(kindOf(request), first, whole - first, h("b", t("rq_answering")));
	return panel(t("rq_time_line"), !tries.length && h("p.muted", t("rq_no_try")), h("ol.list.times", lines, answer));
}

/** @param {Try} tried */
function kindOfTry({ status }) {
	if (!status) return "error";
	return status < GOOD_STATUS ? "ok" : "warn";
}

/**
 * "team-a  429 account rests: next account"
 * @param {Try} tried
 * @param {Translate} t
 */
function headOf({ account_id: id, account_name: name, status, verdict }, t) {
	const key = `v_${verdict}`;
	const text = t(/** @type {TextKey} */ (key));
	const told = text === key ? verdict : text; // an error's name has no text
	return [h("a", { href: `#/accounts/${id}` }, name), h("b", status ? `${status} ${told}` : told)];
}

/**
 * A part of the line of time, as a picture of what the text says.
 * @param {number} at_ms
 * @param {number} ms
 * @param {number} whole_ms
 */
function bar(at_ms, ms, whole_ms) {
	const scale = WIDTH / Math.max(1, whole_ms, at_ms + ms);
	const width = Math.max(LEAST, ms * scale);
	const x = Math.min(at_ms * scale, WIDTH - width);
	const view = { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" };
	return svg("svg.part", view, svg("path.line", { d: `M0 ${HEIGHT / 2}H${WIDTH}` }),
		svg("rect", { x, width, height: HEIGHT, rx: 2 }));
}
