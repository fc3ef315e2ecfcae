// @ts-check
/** Which of the last requests are wanted, and how those that come join those that are there: pure. */

import { isTime } from "./format.js";

/** So many are shown at most while new ones come. */
export const MOST = 1000;
/** The filters, which are called the same in the address and in `api/admin/requests`. */
export const FILTERS = /** @type {const} */ (
	["key", "account", "session", "model", "status", "slow", "retried", "failure", "search", "from", "to"]);

/** @import { LoggedRequest } from "./types.js" */
/** @typedef {Record<typeof FILTERS[number], string>} Wanted "" leaves nothing out */

/** What is no time leaves nothing out. @param {URLSearchParams} query */
export function wantedIn(query) {
	const texts = FILTERS.map((name) => [name, query.get(name)?.trim() ?? ""]);
	const wanted = /** @type {Wanted} */ (Object.fromEntries(texts));
	if (!isTime(wanted.from)) wanted.from = "";
	if (!isTime(wanted.to)) wanted.to = "";
	return wanted;
}

/** The filters that leave something out, as a query of the API. @param {Wanted} wanted */
export const queryOf = (wanted) => new URLSearchParams(Object.entries(wanted).filter(([, value]) => value));

/**
 * The address of the requests of a bar of a chart.
 * @param {{start: number, span_s: number}} bar
 * @param {Partial<Wanted>} wanted
 */
export function hashOf({ start, span_s }, wanted) {
	const at = (/** @type {number} */ seconds) => new Date(seconds * 1000).toISOString();
	return `#/requests?${new URLSearchParams({ ...wanted, from: at(start), to: at(start + span_s) })}`;
}

/** When it ended, in ms: by that they stand in order, and charts count them. @param {LoggedRequest} request */
export const endOf = ({ at, duration_ms }) => Date.parse(at) + duration_ms;

/**
 * Why it failed: what its client was told by the proxy, or how the upstream's error begins.
 * @param {LoggedRequest} request
 */
export function reasonOf({ reason, outcome, status, tries }) {
	const last = tries[tries.length - 1];
	if (reason || outcome === "ok" || last?.status !== status) return reason;
	return last.evidence.replace(/^\d+ ?/, "") || null;
}

/** Until the first byte, or the end if none came. @param {LoggedRequest} request */
export const waited = ({ ttfb_ms, duration_ms }) => ttfb_ms ?? duration_ms;

/** As `Wanted.fits` of the server, see `proxy/usage/request_log.py`.
 * @param {Wanted} wanted
 * @param {LoggedRequest} request
 */
export function fits(wanted, request) {
	const { key, account, session, model, status, slow, retried, failure, search, from, to } = wanted;
	const at = endOf(request);
	const ids = [request.request_id, ...request.tries.map((tried) => tried.request_id ?? "")];
	return (!key || request.key_id === key) &&
		(!account || request.tries.some((tried) => tried.account_id === account)) &&
		(!session || request.session_id === session) &&
		(!model || request.model === model) &&
		(!status || hasStatus(status, request)) &&
		(!slow || waited(request) >= Number(slow)) &&
		(retried !== "true" || request.tries.length > 1) &&
		(!failure || request.tries.some((tried) => tried.failure && [tried.failure, "any"].includes(failure) &&
			(!account || tried.account_id === account))) &&
		(!search || ids.some((id) => id.includes(search))) &&
		(!from || at >= Date.parse(from)) &&
		(!to || at < Date.parse(to));
}

/**
 * @param {string} wanted
 * @param {LoggedRequest} request
 */
function hasStatus(wanted, { status, outcome }) {
	if (wanted === "failed") return outcome !== "ok";
	if (wanted.endsWith("xx")) return String(status)[0] === wanted[0];
	return wanted === outcome || wanted === String(status);
}

/** Of lines as they came, those behind the last gap. @param {LoggedRequest[]} lines */
export const unbroken = (lines) => lines.slice(Math.max(0, lines.findLastIndex(({ skipped }) => skipped)));

/** All of both, newest first, each once. @param {LoggedRequest[]} some @param {LoggedRequest[]} others */
export function united(some, others) {
	const byId = new Map([...some, ...others].map((request) => [request.id, request]));
	return [...byId.values()].sort((a, b) => b.id - a.id);
}
