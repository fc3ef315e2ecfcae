// @ts-check
/** The page's texts by key. */
import english from "./strings.en.js";

/** @import { TextKey } from "./types.js" */

/** @type {Record<string, string>} */
const texts = { ...english };

/** @param {Record<string, string>} more */
export const addTexts = (more) => Object.assign(texts, more);

/**
 * The text, with `{name}` replaced by `params.name`; with `n` that of `key_one` or `key_other`. What the server says
 * and this page does not know, such as a new status, stands for itself.
 * @param {TextKey} key
 * @param {Record<string, any>} params
 */
export function t(key, params = {}) {
	const text = texts[key] ?? texts[`${key}_${params.n === 1 ? "one" : "other"}`] ?? key;
	return text.replace(/\{(\w+)\}/g, (_, name) => params[name] ?? "");
}
