// @ts-check
/** What people paste after they authorised: a code, `code#state`, or the address of the way back. */

/** That of an e-mail sign-in, which is often mistaken for it. */
const SIX_DIGITS = /^\d{6}$/;
const SHORTEST_CODE = 8;

/** @typedef {"access_denied" | "six_digits" | "code_missing" | "state_mismatch"} Mistake */

/**
 * What is wrong with it, or null. `state` is that of the link that was opened.
 * @param {string} pasted
 * @param {string | undefined} state
 * @returns {Mistake | null}
 */
export function mistake(pasted, state) {
	const query = parameters(pasted.replace(/\s/g, ""));
	const code = query.get("code") ?? "";
	const its = query.get("state");
	if (query.get("error") === "access_denied") return "access_denied";
	if (SIX_DIGITS.test(code)) return "six_digits";
	if (code.length < SHORTEST_CODE) return "code_missing";
	return its && its !== state ? "state_mismatch" : null;
}

/** @param {string} text */
function parameters(text) {
	const [, query] = /\?([^#]*)/.exec(text) ?? [];
	return new URLSearchParams(query ?? `code=${text.replace("#", "&state=")}`);
}
