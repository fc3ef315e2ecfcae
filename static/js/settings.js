// @ts-check
/** What this browser keeps: "theme" system|light|dark, "time" relative|local|utc, "shortcuts" on|off, and "session"
 * on|off, which says whether it is worth asking the server for one. Other tabs follow. */

const PREFIX = "cproxy.";

/** @import { Settings } from "./types.js" */

/**
 * `apply` is called with what changes, here or in another tab.
 * @param {(key: string, value: string) => void} apply
 * @returns {Settings}
 */
export function createSettings(apply) {
	/** @type {Record<string, string>} */
	const known = {};

	/**
	 * @param {string} key
	 * @param {string} value
	 */
	function change(key, value) {
		known[key] = value;
		apply(key, value);
	}

	addEventListener("storage", ({ key, newValue }) => {
		if (key?.startsWith(PREFIX) && newValue !== null) change(key.slice(PREFIX.length), newValue);
	});
	return {
		get(key, usual = "") {
			known[key] ??= stored((storage) => storage.getItem(PREFIX + key)) ?? usual;
			return known[key];
		},
		set(key, value) {
			stored((storage) => storage.setItem(PREFIX + key, value));
			change(key, value);
		},
	};
}

/**
 * Null as well if storage is forbidden.
 * @template Result
 * @param {(storage: Storage) => Result} does
 */
function stored(does) {
	try {
		return does(localStorage);
	} catch {
		return null;
	}
}
