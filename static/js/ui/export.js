// @ts-check
/** Files of what is shown. */
import { csv, flat, json } from "../csv.js";
import { h } from "../dom.js";
import { menu } from "./menu.js";

/** @import { App } from "../types.js" */
/** @import { Row } from "../csv.js" */

/** @type {Record<string, (rows: Row[]) => string>} */
const FORMS = { csv, json };
const REVOKE_AFTER_MS = 1000;

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
	const text = FORMS[form](records.map((record) => flat(columns, record)));
	const href = URL.createObjectURL(new Blob([text]));
	h("a", { href, download: `${name}.${form}` }).click();
	setTimeout(() => URL.revokeObjectURL(href), REVOKE_AFTER_MS);
}
