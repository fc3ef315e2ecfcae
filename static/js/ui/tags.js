// @ts-check
/** Tags in one field, separated by commas. */
import { field, typed } from "./dialog.js";

/**
 * @param {string} label
 * @param {string[]} tags
 * @param {string} hint
 */
export function tagsField(label, tags, hint) {
	const made = field(label, { value: tags.join(", ") }, hint);
	const read = () => typed(made).split(",").map((tag) => tag.trim()).filter(Boolean);
	return { ...made, read };
}
