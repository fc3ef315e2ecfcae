// @ts-check
/** Records as the text of a file. Columns are dotted paths: nothing else gets out. */

/** What a spreadsheet would take for a formula, full-width signs (＝ ＋ － ＠) too (OWASP, "CSV Injection"). */
const FORMULA = /^[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]/;
const TIME = /(^|_)(at|until)$/;

/** @typedef {Record<string, unknown>} Row */

/**
 * A flat object; beside each time stand its seconds since the epoch.
 * @param {string[]} columns
 * @param {unknown} record
 */
export function flat(columns, record) {
	/** @type {Row} */
	const row = {};
	for (const path of columns) {
		const value = at(record, path);
		row[path] = value;
		if (TIME.test(path)) row[`${path}_epoch`] = value && Date.parse(value) / 1000;
	}
	return row;
}

/**
 * What is at the path, or null.
 * @param {any} record
 * @param {string} path
 */
const at = (record, path) => path.split(".").reduce((part, key) => part?.[key], record) ?? null;

/** A field by RFC 4180; what looks like a formula gets an apostrophe. @param {unknown} value */
function field(value) {
	const text = String(value ?? "").replace(FORMULA, "'$&");
	return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** @param {unknown[]} values */
const line = (values) => `${values.map(field).join(",")}\r\n`;

/** @param {Row[]} rows */
export const csv = (rows) => [Object.keys(rows[0] ?? {}), ...rows.map((row) => Object.values(row))].map(line).join("");

/** @param {Row[]} rows */
export const json = (rows) => JSON.stringify(rows, null, 2);
