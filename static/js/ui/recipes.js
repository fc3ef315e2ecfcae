// @ts-check
/** What to type to point a client here, by client: pure. */

/** A name in code, or the key of a text, and what to copy. @typedef {[name: string, text: string]} Recipe */

/** @type {(url: string, key: string) => Record<string, Recipe[]>} */
export const recipes = (url, key) => ({
	curl: [["curl", `curl -N "${url}/v1/messages" -H "Authorization: Bearer ${key}" \\
  -H "anthropic-version: 2023-06-01" -H "content-type: application/json" \\
  -d '{"model": "claude-haiku-4-5", "max_tokens": 100, "stream": true,
       "messages": [{"role": "user", "content": "Hello"}]}'`]],
	python: [["Python SDK", `from anthropic import Anthropic

client = Anthropic(base_url="${url}", api_key="${key}")
print(client.messages.create(
    model="claude-haiku-4-5", max_tokens=100, messages=[{"role": "user", "content": "Hello"}]
).content)`]],
	typescript: [["TypeScript SDK", `import Anthropic from "@anthropic-ai/sdk";

const client = new Anthropic({ baseURL: "${url}", apiKey: "${key}" });
console.log(await client.messages.create({
  model: "claude-haiku-4-5", max_tokens: 100, messages: [{ role: "user", content: "Hello" }],
}));`]],
	claude_code: [
		["bash, zsh", `export ANTHROPIC_BASE_URL="${url}"
export ANTHROPIC_AUTH_TOKEN="${key}"
unset ANTHROPIC_API_KEY
claude`],
		["~/.claude/settings.json",
			JSON.stringify({ env: { ANTHROPIC_BASE_URL: url, ANTHROPIC_AUTH_TOKEN: key } }, null, 2)],
		["fish", `set -gx ANTHROPIC_BASE_URL "${url}"
set -gx ANTHROPIC_AUTH_TOKEN "${key}"
set -e ANTHROPIC_API_KEY
claude`],
		["PowerShell", `$env:ANTHROPIC_BASE_URL = "${url}"
$env:ANTHROPIC_AUTH_TOKEN = "${key}"
Remove-Item Env:ANTHROPIC_API_KEY -ErrorAction SilentlyContinue
claude`],
		["cmd", `set "ANTHROPIC_BASE_URL=${url}"
set "ANTHROPIC_AUTH_TOKEN=${key}"
set "ANTHROPIC_API_KEY="
claude`],
	],
	others: [
		["base_url", url],
		["client_key", key],
		["OpenAI SDK", `from openai import OpenAI

client = OpenAI(base_url="${url}/v1", api_key="${key}")
print(client.chat.completions.create(
    model="claude-haiku-4-5", messages=[{"role": "user", "content": "Hello"}]
).choices[0].message.content)`],
	],
});
