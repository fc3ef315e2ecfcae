// @ts-check
/** What stands in the place of what could not be loaded. */
import { press } from "./dialog.js";

/** @import { App, TextKey } from "../types.js" */

/**
 * Says in `note` what failed and why, with a button that tries again.
 * @param {App} app
 * @param {HTMLElement} note
 * @param {TextKey} what
 * @param {unknown} error
 * @param {() => unknown} again
 */
export function tellFailure({ t }, note, what, error, again) {
	const { message } = /** @type {Error} */ (error);
	note.replaceChildren(`${t(what)} ${message} `, press({ label: t("retry"), run: again }));
}
