// @ts-check
/** Snippets that point a client here; with the real key only where it has just been made. */
import { h, setText } from "../dom.js";
import { press } from "../ui/dialog.js";

/** Where clients go: this page's address, without `/v1`. */
const HERE = new URL(".", document.baseURI).href.slice(0, -1);

/** @import { App, Mount } from "../types.js" */

/**
 * What to type, by the name of the client.
 * @type {(url: string, key: string) => Record<string, string>}
 */
const recipes = (url, key) => ({
	"bash, zsh": `export ANTHROPIC_BASE_URL="${url}"
export ANTHROPIC_AUTH_TOKEN="${key}"
unset ANTHROPIC_API_KEY`,
	fish: `set -gx ANTHROPIC_BASE_URL "${url}"
set -gx ANTHROPIC_AUTH_TOKEN "${key}"
set -e ANTHROPIC_API_KEY`,
	PowerShell: `$env:ANTHROPIC_BASE_URL = "${url}"
$env:ANTHROPIC_AUTH_TOKEN = "${key}"
Remove-Item Env:ANTHROPIC_API_KEY -ErrorAction SilentlyContinue`,
	cmd: `set "ANTHROPIC_BASE_URL=${url}"
set "ANTHROPIC_AUTH_TOKEN=${key}"
set "ANTHROPIC_API_KEY="`,
	"Claude Code settings.json":
		JSON.stringify({ env: { ANTHROPIC_BASE_URL: url, ANTHROPIC_AUTH_TOKEN: key } }, null, 2),
	"Python SDK": `from anthropic import Anthropic

client = Anthropic(base_url="${url}", api_key="${key}")
print(client.messages.create(
    model="claude-haiku-4-5", max_tokens=100, messages=[{"role": "user", "content": "Hello"}]
).content)`,
	"TypeScript SDK": `import Anthropic from "@anthropic-ai/sdk";

const client = new Anthropic({ baseURL: "${url}", apiKey: "${key}" });
console.log(await client.messages.create({
  model: "claude-haiku-4-5", max_tokens: 100, messages: [{ role: "user", content: "Hello" }],
}));`,
	curl: `curl -N "${url}/v1/messages" -H "Authorization: Bearer ${key}" \\
  -H "anthropic-version: 2023-06-01" -H "content-type: application/json" \\
  -d '{"model": "claude-haiku-4-5", "max_tokens": 100, "stream": true,
       "messages": [{"role": "user", "content": "Hello"}]}'`,
});

/**
 * Copies the element's text. Where the clipboard is closed, as over plain HTTP, it is selected.
 * @param {HTMLElement} el
 */
export async function copy(el) {
	try {
		await navigator.clipboard.writeText(el.textContent ?? "");
		return true;
	} catch {
		getSelection()?.selectAllChildren(el);
		return document.execCommand("copy");
	}
}

/**
 * A text to copy; the outcome is said beside it, for toasts lie behind a dialog.
 * @param {App} app
 * @param {string} label
 * @param {string} text
 */
export function copyable({ t }, label, text) {
	const pre = h("pre", text);
	const said = h("span", { role: "status" });
	const run = async () => setText(said, t(await copy(pre) ? "copied" : "copy_manual"));
	const button = press({ label: t("copy"), "aria-label": t("copy_what", { what: label }), run });
	return h("div.snippet", h("div.row", h("b", label), said, button), pre);
}

/**
 * @param {App} app
 * @param {string} key
 */
export const snippets = (app, key) => h("div.columns",
	Object.entries(recipes(HERE, key)).map(([client, text]) => copyable(app, client, text)));

/** @type {Mount} */
export default function mount(root, app) {
	const { t } = app;
	const key = "<YOUR_TOKEN>";
	root.append(
		h("p", t("connect_intro", { key }), " ", h("a", { href: "#/tokens" }, t("create_key"))),
		copyable(app, t("base_url"), HERE),
		h("p.muted", t("connect_note")),
		snippets(app, key));
}
