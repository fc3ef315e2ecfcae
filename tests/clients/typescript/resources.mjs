// Calls what organizations have with `@anthropic-ai/sdk`, and prints what came of each call as JSON: as
// python_resources.py does, call by call.
//
// Read from standard input by `node --input-type=module`, in the folder where the package is installed;
// ANTHROPIC_BASE_URL and ANTHROPIC_API_KEY say where and as whom, OTHER_API_KEY is a key of another organization. With
// KEYS_IN_TURN each request has the next of these keys in place of the first.

import Anthropic, { toFile } from "@anthropic-ai/sdk";
import { betaTool } from "@anthropic-ai/sdk/helpers/beta/json-schema";

const MODEL = "claude-sonnet-5-5";
const QUESTION = { role: "user", content: "What is a façade — in 30 words?" };
const CODE = { type: "code_execution_20250825", name: "code_execution" };
const RUNS_CODE = { model: MODEL, max_tokens: 500, messages: [QUESTION], tools: [CODE] };
const KEYS = (process.env.KEYS_IN_TURN ?? "").split(" ").filter(Boolean);

let signed = 0;

/** `fetch` with the next of the keys, if there are any. */
function fetchInTurn(url, init) {
  if (KEYS.length) {
    const headers = new Headers(init.headers);
    headers.delete("authorization");
    headers.set("x-api-key", KEYS[signed++ % KEYS.length]);
    return fetch(url, { ...init, headers });
  }
  return fetch(url, init);
}

const client = new Anthropic({ maxRetries: 0, fetch: fetchInTurn });
const other = new Anthropic({ maxRetries: 0, apiKey: process.env.OTHER_API_KEY });

/** All items of a list with pages, or of a stream. */
async function every(source) {
  const items = [];
  for await (const item of source) items.push(item);
  return items;
}

async function ids(source) {
  return (await every(source)).map((item) => item.id);
}

function same(found, wanted) {
  return JSON.stringify(found) === JSON.stringify(wanted);
}

/** What another organization is told: the error's class, and its text without the id. */
async function foreign(call, id = "ID") {
  try {
    return ["returned", String(await call(id))];
  } catch (error) {
    if (!(error instanceof Anthropic.APIError)) throw error;
    return [error.constructor.name, error.error.error.message.replace(id, "ID")];
  }
}

/** What `make` gives for each of `names`, one after the other. */
async function each(names, make) {
  const made = [];
  for (const name of names) made.push((await make(name)).id);
  return made;
}

function about(file_id) {
  const document = { type: "document", source: { type: "file", file_id } };
  const question = { type: "text", text: "What is in it?" };
  return { model: MODEL, max_tokens: 100, messages: [{ role: "user", content: [document, question] }] };
}

async function upload(name) {
  return client.files.upload({ file: await toFile(Buffer.from(name), `${name}.txt`, { type: "text/plain" }) });
}

async function skillFiles() {
  const text = "---\nname: greeting\ndescription: How to greet\n---\n";
  return [await toFile(Buffer.from(text), "greeting/SKILL.md", { type: "text/markdown" })];
}

async function files() {
  const made = await each("abc", upload);
  const ask = (api) => (id) => api.messages.create(about(id));
  return {
    listed: same(await ids(client.files.list({ limit: 2 })), made.toReversed()),
    named: (await client.files.retrieveMetadata(made[0])).filename,
    content: await (await client.files.download(made[1])).text(),
    used: (await ask(client)(made[2])).type,
    counted: (await client.messages.countTokens({ model: MODEL, messages: about(made[2]).messages })).input_tokens > 0,
    foreign: await foreign((id) => other.files.retrieveMetadata(id), made[0]),
    "foreign content": await foreign((id) => other.files.download(id), made[0]),
    "foreign use": await foreign(ask(other), made[0]),
    "foreign deletion": await foreign((id) => other.files.delete(id), made[0]),
    "foreign list": await ids(other.files.list()),
    deleted: (await client.files.delete(made[0])).type,
    then: await foreign((id) => client.files.retrieveMetadata(id), made[0]),
    left: same(await ids(client.files.list()), [made[2], made[1]]),
  };
}

async function batches() {
  const { batches: resource } = client.messages;
  const theirs = other.messages.batches;
  const requests = [{ custom_id: "about", params: about((await upload("a")).id) }];
  const made = await each("abc", () => resource.create({ requests }));
  const kinds = async (id) => (await every(await resource.results(id))).map((line) => line.result.type);
  return {
    canceling: (await resource.cancel(made[1])).processing_status,
    ended: (await resource.retrieve(made[0])).processing_status,
    results: await kinds(made[0]),
    canceled: [(await resource.retrieve(made[1])).processing_status, ...(await kinds(made[1]))].slice(1),
    listed: same(await ids(resource.list({ limit: 2 })), made.toReversed()),
    backwards: same(await ids(resource.list({ limit: 1, before_id: made[0] })), made.slice(1)),
    foreign: await foreign((id) => theirs.retrieve(id), made[0]),
    "foreign results": await foreign((id) => theirs.results(id), made[0]),
    "foreign cancellation": await foreign((id) => theirs.cancel(id), made[2]),
    "foreign deletion": await foreign((id) => theirs.delete(id), made[0]),
    "foreign list": await ids(theirs.list()),
    deleted: (await resource.delete(made[0])).type,
    left: same(await ids(resource.list()), [made[2], made[1]]),
  };
}

async function skills() {
  const { skills: resource } = client;
  const made = await each("abc", async () => resource.create({ files: await skillFiles() }));
  const second = await resource.versions.create(made[0], { files: await skillFiles() });
  const use = (api) => (skill_id) => {
    const skill = { type: "custom", skill_id, version: "latest" };
    return api.beta.messages.create({ ...RUNS_CODE, container: { skills: [skill] } });
  };
  const versions = await every(resource.versions.list(made[0], { limit: 1 }));
  return {
    listed: same(await ids(resource.list({ limit: 2, source: "custom" })), made.toReversed()),
    versions: versions.length,
    newest: (await resource.versions.retrieve(second.id, { skill_id: made[0] })).id === second.id,
    used: (await use(client)(made[0])).type,
    foreign: await foreign((id) => other.skills.retrieve(id), made[0]),
    "foreign use": await foreign(use(other), made[0]),
    "foreign list": await ids(other.skills.list({ source: "custom" })),
    deleted: (await resource.versions.delete(second.id, { skill_id: made[0] })).type,
  };
}

async function containers() {
  const first = await client.beta.messages.create(RUNS_CODE);
  const file = first.content[1].content.content[0].file_id;
  const container = first.container.id;
  const again = await client.beta.messages.create({ ...RUNS_CODE, container });
  const streamed = await client.beta.messages.stream({ ...RUNS_CODE, container }).finalMessage();
  const theirs = (id) => other.beta.messages.create({ ...RUNS_CODE, container: id });
  return {
    stays: again.container.id === container && streamed.container.id === container,
    file: await (await client.files.download(file)).text(),
    foreign: await foreign(theirs, container),
    "foreign file": await foreign((id) => other.files.retrieveMetadata(id), file),
  };
}

async function thinking() {
  const asked = { model: MODEL, max_tokens: 2000, thinking: { type: "enabled", budget_tokens: 1024 } };
  const { content } = await client.messages.stream({ ...asked, messages: [QUESTION] }).finalMessage();
  const messages = [QUESTION, { role: "assistant", content }, QUESTION];
  return {
    own: (await client.messages.create({ ...asked, messages })).type,
    foreign: await foreign(() => other.messages.create({ ...asked, messages })),
  };
}

async function agents() {
  const { agents: resource } = client.beta;
  const made = await each("abc", () => resource.create({ name: "Ada", model: MODEL }));
  const changed = await resource.update(made[0], { name: "Bo", version: 1 });
  return {
    listed: same(await ids(resource.list({ limit: 2 })), made.toReversed()),
    changed: [changed.name, changed.version],
    versions: (await every(resource.versions.list(made[0], { limit: 1 }))).map((agent) => agent.version),
    archived: (await resource.archive(made[1])).archived_at !== null,
    foreign: await foreign((id) => other.beta.agents.retrieve(id), made[0]),
    "foreign list": await ids(other.beta.agents.list()),
  };
}

async function environments() {
  const { environments: resource } = client.beta;
  const made = await each("abc", (name) => resource.create({ name }));
  return {
    listed: same(await ids(resource.list({ limit: 2 })), made.toReversed()),
    network: (await resource.retrieve(made[0])).config.networking.type,
    renamed: (await resource.update(made[0], { name: "d" })).name,
    deleted: (await resource.delete(made[1])).type,
    foreign: await foreign((id) => other.beta.environments.retrieve(id), made[0]),
    "foreign list": await ids(other.beta.environments.list()),
  };
}

/** The types of a turn's events, as they come while it is asked for. */
async function turn(session) {
  const { events } = client.beta.sessions;
  const heard = [];
  const stream = await events.stream(session);
  const sending = events.send(session, {
    events: [{ type: "user.message", content: [{ type: "text", text: "hello" }] }],
  });
  for await (const event of stream) {
    heard.push(event.type);
    if (event.type === "session.status_idle") break;
  }
  await sending;
  return heard;
}

async function sessions() {
  const { beta } = client;
  const { sessions: resource } = beta;
  const file = (await upload("a")).id;
  const named = { agent: (await beta.agents.create({ name: "Ada", model: MODEL })).id };
  named.environment_id = (await beta.environments.create({ name: "here" })).id;
  const resources = [{ type: "file", file_id: file }];
  const made = await each("abc", () => resource.create({ ...named, resources }));
  const heard = await turn(made[0]);
  const first = await resource.list({ limit: 1 });
  const second = await resource.list({ limit: 1, page: first.next_page });
  const back = await resource.list({ limit: 1, page: second.prev_page });
  const [thread] = await every(resource.threads.list(made[0]));
  const [mounted] = await every(resource.resources.list(made[0]));
  const types = async (list) => (await every(list)).map((event) => event.type);
  const inThread = resource.threads.events.list(thread.id, { session_id: made[0] });
  return {
    listed: same(await ids(resource.list({ limit: 2 })), made.toReversed()),
    pages: same([second.data[0].id, back.data[0].id], [made[1], made[2]]),
    heard,
    events: same(await types(resource.events.list(made[0], { limit: 2 })), heard),
    "thread events": same(await types(inThread), heard),
    resource: mounted.file_id === file,
    removed: (await resource.resources.delete(mounted.id, { session_id: made[0] })).type,
    archived: (await resource.archive(made[0])).status,
    deleted: (await resource.delete(made[1])).type,
    foreign: await foreign((id) => other.beta.sessions.retrieve(id), made[0]),
    "foreign list": await ids(other.beta.sessions.list()),
    "foreign agent": await foreign(() => other.beta.sessions.create(named), named.agent),
  };
}

async function vaults() {
  const { vaults: resource } = client.beta;
  const vault = (await resource.create({ display_name: "keys" })).id;
  const auth = { type: "static_bearer", token: "t", mcp_server_url: "https://example.com" };
  const credential = (await resource.credentials.create(vault, { auth })).id;
  const listed = [await ids(resource.list()), await ids(resource.credentials.list(vault))];
  return {
    auth: (await resource.credentials.retrieve(credential, { vault_id: vault })).auth.type,
    listed: [same(listed[0], [vault]), same(listed[1], [credential])],
    foreign: await foreign((id) => other.beta.vaults.retrieve(id), vault),
    "foreign list": await ids(other.beta.vaults.list()),
    deleted: [
      (await resource.credentials.delete(credential, { vault_id: vault })).type,
      (await resource.delete(vault)).type,
    ],
  };
}

async function memory() {
  const { memoryStores: resource } = client.beta;
  const store = (await resource.create({ name: "notes" })).id;
  const note = (await resource.memories.create(store, { path: "/a.md", content: "remember" })).id;
  const listed = [await ids(resource.list()), await ids(resource.memories.list(store))];
  return {
    content: (await resource.memories.retrieve(note, { memory_store_id: store })).content,
    listed: [same(listed[0], [store]), same(listed[1], [note])],
    foreign: await foreign((id) => other.beta.memoryStores.retrieve(id), store),
    "foreign list": await ids(other.beta.memoryStores.list()),
    deleted: [
      (await resource.memories.delete(note, { memory_store_id: store })).type,
      (await resource.delete(store)).type,
    ],
  };
}

async function diagnostics() {
  const asked = { model: MODEL, max_tokens: 100, messages: [QUESTION] };
  const first = await client.messages.create({ ...asked, diagnostics: { previous_message_id: null } });
  const named = { diagnostics: { previous_message_id: first.id } };
  const changed = await client.messages.create({ ...asked, ...named, system: "Be brief." });
  const lost = await other.messages.create({ ...asked, ...named });
  return {
    first: first.diagnostics,
    changed: changed.diagnostics.cache_miss_reason.type,
    foreign: lost.diagnostics.cache_miss_reason.type,
  };
}

/** The helper's turns: two with the thread, and one whose thread another organization does not have. */
async function threads() {
  const mover = new Anthropic({ maxRetries: 0 });
  const thread = mover.beta.messages.thread({ model: MODEL, max_tokens: 100, system: "Be brief." });
  const sent = [];
  for (const content of ["one", "two"]) sent.push((await thread.send({ role: "user", content })).id);
  mover.apiKey = process.env.OTHER_API_KEY;
  sent.push((await thread.send({ role: "user", content: "three" })).id);
  return { ids: new Set(sent).size, messages: thread.messages.length };
}

async function tool_runner() {
  const tool = betaTool({
    name: "get_weather",
    description: "The weather in a city.",
    inputSchema: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
    run: ({ city }) => `18 °C in ${city}`,
  });
  const messages = [{ role: "user", content: "weather?" }];
  const runner = client.beta.messages.toolRunner({ model: MODEL, max_tokens: 500, tools: [tool], messages });
  return { reasons: (await every(runner)).map((message) => message.stop_reason) };
}

const CALLS = [files, batches, skills, containers, thinking, agents, environments, sessions, vaults, memory];
const found = {};
for (const call of [...CALLS, diagnostics, threads, tool_runner]) found[call.name] = await call();
process.stdout.write(JSON.stringify(found));
