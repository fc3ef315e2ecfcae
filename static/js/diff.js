// @ts-check
/** What a change has changed, as text. */
import { timed } from "./format.js";

/** @import { App, TextKey } from "./types.js" */
/** @typedef {Record<string, unknown> | null | undefined} Fields */

const NOTHING = "–";
/** What fields are called, if not by their own name. @type {Record<string, TextKey>} */
const NAMES = { key: "client_key", former_keys: "k_former", group: "k_group", expires_at: "k_expires", status: "state" };

/** What stands there, members of objects by their path. @param {Fields} fields */
function flat(fields) {
	/** @type {Map<string, string>} */
	const found = new Map();
	for (const [name, value] of Object.entries(fields ?? {})) {
		if (value && typeof value === "object" && !Array.isArray(value)) {
			for (const [member, text] of flat(/** @type {Fields} */ (value))) found.set(`${name}.${member}`, text);
		} else {
			found.set(name, Array.isArray(value) ? value.join(", ") || NOTHING : String(value ?? "") || NOTHING);
		}
	}
	return found;
}

/**
 * "name: team → crew; limits.tokens_per_day: – → 5000". Of what is new or gone nothing: its text says that.
 * @param {Fields} before
 * @param {Fields} after
 * @param {boolean} [whole] of what is new, all that it has
 * @param {(name: string) => string} label what a field is called
 */
export function diff(before, after, whole = false, label = (name) => name) {
	if (!after || (!before && !whole)) return "";
	const old = flat(before);
	return [...flat(after)]
		.filter(([name, text]) => old.get(name) !== text)
		.map(([name, text]) => (before ? `${label(name)}: ${old.get(name) ?? NOTHING} → ${text}` : `${label(name)}: ${text}`))
		.join("; ");
}

/**
 * The same for people: fields of an account or a client key are named in words if there are some, times told as settings
 * want them.
 * @param {Pick<App, "t" | "clock">} app
 * @param {Fields} before
 * @param {Fields} after
 * @param {boolean} [whole]
 */
export const changes = ({ t, clock }, before, after, whole) => timed(diff(before, after, whole,
	(name) => t(/** @type {TextKey} */ (NAMES[name] ?? name.replace("limits.", "")))), clock);
