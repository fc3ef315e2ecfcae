// @ts-check
/** Ready snippets that point a client here; with the real key only where it has just been made. */
import { h, setText } from "../dom.js";

/** Where clients go: this page's address, without `/v1`. */
const here = () => new URL(".", document.baseURI).href.replace(/\/$/, "");

const BODY = '{"model": "claude-haiku-4-5", "max_tokens": 100, "stream": true,\n' +
  '       "messages": [{"role": "user", "content": "Hello"}]}';

const RECIPES = {
  bash: (url, key) => `export ANTHROPIC_BASE_URL="${url}"
export ANTHROPIC_AUTH_TOKEN="${key}"
unset ANTHROPIC_API_KEY`,
  fish: (url, key) => `set -gx ANTHROPIC_BASE_URL "${url}"
set -gx ANTHROPIC_AUTH_TOKEN "${key}"
set -e ANTHROPIC_API_KEY`,
  powershell: (url, key) => `$env:ANTHROPIC_BASE_URL = "${url}"
$env:ANTHROPIC_AUTH_TOKEN = "${key}"
Remove-Item Env:ANTHROPIC_API_KEY -ErrorAction SilentlyContinue`,
  cmd: (url, key) => `set "ANTHROPIC_BASE_URL=${url}"
set "ANTHROPIC_AUTH_TOKEN=${key}"
set "ANTHROPIC_API_KEY="`,
  claude: (url, key) =>
    JSON.stringify({ env: { ANTHROPIC_BASE_URL: url, ANTHROPIC_AUTH_TOKEN: key } }, null, 2),
  python: (url, key) => `from anthropic import Anthropic

client = Anthropic(base_url="${url}", api_key="${key}")
message = client.messages.create(
    model="claude-haiku-4-5", max_tokens=100, messages=[{"role": "user", "content": "Hello"}]
)
print(message.content[0].text)`,
  typescript: (url, key) => `import Anthropic from "@anthropic-ai/sdk";

const client = new Anthropic({ baseURL: "${url}", apiKey: "${key}" });
const message = await client.messages.create({
  model: "claude-haiku-4-5", max_tokens: 100, messages: [{ role: "user", content: "Hello" }],
});
console.log(message.content);`,
  curl: (url, key) => `curl -N "${url}/v1/messages" \\
  -H "Authorization: Bearer ${key}" \\
  -H "anthropic-version: 2023-06-01" -H "content-type: application/json" \\
  -d '${BODY}'`,
};

/** Copies the element's text. False where the clipboard is closed, as over plain HTTP: then it is selected. */
export async function copy(el) {
  try {
    await navigator.clipboard.writeText(el.textContent);
    return true;
  } catch {
    getSelection()?.selectAllChildren(el);
    return document.execCommand("copy");
  }
}

/** A text with its Copy button; what came of it is said beside it, for toasts lie behind a dialog. */
export function copyable(app, label, text) {
  const pre = h("pre", null, text), said = h("span", { role: "status" });
  const what = app.t("copy.what", { what: label });
  const button = h("button", { type: "button", "aria-label": what }, app.t("copy"));
  button.onclick = async () => setText(said, app.t(await copy(pre) ? "copied" : "copy.manual"));
  return h("div", { class: "snippet" }, h("div", { class: "row" }, h("b", null, label), said, button), pre);
}

/** One snippet at a time, chosen by client. */
export function snippets(app, key) {
  const option = (id) => h("option", { value: id }, app.t(`connect.${id}`));
  const select = h("select", null, Object.keys(RECIPES).map(option));
  const place = h("div");
  const show = () => place.replaceChildren(
    copyable(app, app.t(`connect.${select.value}`), RECIPES[select.value](here(), key)));
  select.onchange = show;
  show();
  return h("div", null, h("label", { class: "field" }, app.t("connect.client"), select), place);
}

export default async function mount(root, app) {
  await Promise.all([app.strings("views"), app.css("views")]);
  const key = "<YOUR_TOKEN>";
  root.append(
    h("h2", { tabindex: -1 }, app.t("connect")),
    h("p", null, app.t("connect.intro", { key }), " ", h("a", { href: "#/tokens" }, app.t("tokens.create"))),
    copyable(app, app.t("connect.url"), here()),
    h("p", { class: "muted" }, app.t("connect.note")),
    h("div", { class: "snippets" },
      Object.entries(RECIPES).map(([id, text]) => copyable(app, app.t(`connect.${id}`), text(here(), key)))),
  );
  return { topics: [], title: app.t("connect"), patch() {}, tick() {}, unmount() {} };
}
