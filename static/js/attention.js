// @ts-check
/** Which accounts need somebody, why, and what solves it; and how far a new proxy has come. Pure. */
import { ms } from "./format.js";

/** @import { Account, FirstText, Health, Traffic } from "./types.js" */

/** `text` with `{why}` in it is the sentence, `solve` the action and the text of its button.
 * @typedef {{text: FirstText, why: string, solve: "reauthorise" | "replace_key" | "refresh" | "test"}} Trouble */

/**
 * What of an account needs somebody; null if nothing does. An access token that ends is nothing: it is refreshed.
 * @param {Account} account
 * @param {number} now
 * @returns {Trouble | null}
 */
export function troubleOf({ type, status, status_reason: reason, last_refresh_error: error, expires_at, unchecked }, now) {
	if (status === "inactive") return null;
	if (status === "invalid") {
		const why = reason ?? "";
		return type === "oauth" ? { text: "n_signed_out", why, solve: "reauthorise" } : { text: "n_key", why, solve: "replace_key" };
	}
	if (error && expires_at) {
		const ended = ms(expires_at) <= now;
		return { text: ended ? "n_ended" : "n_refresh", why: error, solve: ended ? "reauthorise" : "refresh" };
	}
	if (status === "active" && reason) return { text: "n_refuses", why: reason, solve: "test" };
	return unchecked ? { text: "n_unchecked", why: "", solve: "test" } : null;
}

/**
 * The steps from nothing to the first answer, and which are done.
 * @param {Account[]} accounts
 * @param {Traffic} traffic
 * @returns {{text: FirstText, done: boolean}[]}
 */
export function stepsOf(accounts, { client_keys: keys, sessions, since_start: used }) {
	const answered = used.requests > used.errors || accounts.some(({ last_used_at: at }) => at !== null);
	const asked = answered || used.requests > 0 || sessions > 0;
	return [
		{ text: "f_account", done: accounts.length > 0 },
		{ text: "f_key", done: keys > 0 },
		{ text: "f_connect", done: asked },
		{ text: "f_answer", done: answered },
	];
}

/** What the states of accounts do not say. @param {Health} health */
export const otherReasons = ({ reasons }) =>
	reasons.filter((reason) => !/^(no accounts|\d+ of \d+ accounts (rate limited|invalid|inactive))$/.test(reason));

/**
 * How much more or less was spent than by the same time yesterday, in whole per cent; null if there is nothing to compare.
 * @param {number | null} today
 * @param {number | null} yesterday
 */
export const changeOf = (today, yesterday) =>
	(today === null || !yesterday ? null : Math.round((today / yesterday - 1) * 100));
