/** Files of what is shown. Columns are dotted paths: nothing else gets out. */
import { h } from "../dom.js";
import { menu } from "./menu.js";

/** A flat object; beside each time stand its seconds since the epoch. */
const flat = (columns, row) => Object.fromEntries(columns.flatMap((path) => {
	const value = path.split(".").reduce((part, key) => part?.[key], row) ?? null;
	const epoch = /(^|_)(at|until)$/.test(path) ? [[`${path}_epoch`, value && Date.parse(value) / 1000]] : [];
	return [[path, value], ...epoch];
}));

/** RFC 4180; what a spreadsheet would take for a formula gets an apostrophe. */
function cell(value) {
	const text = String(value ?? "").replace(/^[=+\-@\t\r]/, "'$&");
	return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

const FORMS = {
	csv: (rows) => [Object.keys(rows[0] ?? {}), ...rows.map(Object.values)]
		.map((line) => `${line.map(cell).join(",")}\r\n`).join(""),
	json: (rows) => JSON.stringify(rows, null, 2),
};

/** Asks for the format, and hands the browser a file. */
export async function offer(app, button, name, columns, rows) {
	await app.more();
	const label = (form) => app.t("export_as", { form: form.toUpperCase(), n: rows.length });
	const form = await menu(button, Object.keys(FORMS).map((value) => ({ value, label: label(value) })));
	if (!form) return;
	const text = FORMS[form](rows.map((row) => flat(columns, row)));
	const href = URL.createObjectURL(new Blob([text]));
	h("a", { href, download: `${name}.${form}` }).click();
	setTimeout(() => URL.revokeObjectURL(href), 1000);
}
