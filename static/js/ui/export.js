// @ts-check
/** Files of what is shown, as text. Columns are dotted paths: nothing else gets out. */
import { h } from "../dom.js";
import { menu } from "./menu.js";

/** @import { App } from "../types.js" */
/** @typedef {Record<string, unknown>} Row */

/** What a spreadsheet would take for a formula, full-width signs (＝ ＋ － ＠) too (OWASP, "CSV Injection"). */
const FORMULA = /^[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]/;
const TIME = /(^|_)(at|until)$/;
const REVOKE_AFTER_MS = 1000;

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

/** @type {Record<string, (rows: Row[]) => string>} */
const FORMS = { csv, json };

/** Hands the browser a file. @param {string} name @param {string} text */
export function save(name, text) {
	const href = URL.createObjectURL(new Blob([text]));
	h("a", { href, download: name }).click();
	setTimeout(() => URL.revokeObjectURL(href), REVOKE_AFTER_MS);
}

/**
 * Asks for the format, and hands the browser a file.
 * @param {App} app
 * @param {HTMLButtonElement} button
 * @param {string} name
 * @param {string[]} columns
 * @param {unknown[]} records
 */
export async function offer(app, button, name, columns, records) {
	await app.more();
	const label = (/** @type {string} */ form) =>
		app.t("export_as", { form: form.toUpperCase(), n: records.length });
	const form = await menu(button, Object.keys(FORMS).map((value) => ({ value, label: label(value) })));
	if (!form) return;
	save(`${name}.${form}`, FORMS[form](records.map((record) => flat(columns, record))));
}
