// @ts-check
/** Files of what is shown. Columns are dotted paths and an allow-list: nothing else gets out. */
import { menu } from "./menu.js";

const at = (row, path) => path.split(".").reduce((value, key) => value?.[key], row) ?? null;

/** A flat object; beside each time stand its seconds since the epoch. */
const flat = (columns, row) => Object.fromEntries(columns.flatMap((path) => {
  const value = at(row, path);
  const epoch = [`${path}_epoch`, value && Date.parse(value) / 1000];
  return /(^|_)(at|until)$/.test(path) ? [[path, value], epoch] : [[path, value]];
}));

const cell = (value) => {
  if (value === null) return "";
  let text = typeof value === "object" ? JSON.stringify(value) : String(value);
  // A spreadsheet would take it for a formula.
  if (/^[=+\-@\t\r]/.test(text) && typeof value === "string") text = `'${text}`;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
};

/** RFC 4180. */
export const csv = (columns, rows) =>
  [Object.keys(flat(columns, {})), ...rows.map((row) => Object.values(flat(columns, row)))]
    .map((line) => `${line.map(cell).join(",")}\r\n`).join("");

export const json = (columns, rows) => JSON.stringify(rows.map((row) => flat(columns, row)), null, 2);

/** Hands the text to the browser as a file. */
export function download(name, type, text) {
  const href = URL.createObjectURL(new Blob([text], { type: `${type};charset=utf-8` }));
  Object.assign(document.createElement("a"), { href, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(href), 1000);
}

/** Asks at the button for the format. */
export async function offer(app, button, name, columns, rows) {
  await app.strings("views");
  const forms = ["csv", "json"].map((act) => ({ act, label: app.t(`export.${act}`, { n: rows.length }) }));
  const form = await menu(button, forms);
  if (form === "csv") download(`${name}.csv`, "text/csv", csv(columns, rows));
  if (form === "json") download(`${name}.json`, "application/json", json(columns, rows));
}
