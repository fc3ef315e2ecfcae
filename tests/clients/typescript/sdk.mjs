// Calls the Claude API with `@anthropic-ai/sdk` as programs do, and prints what came of each call as JSON.
//
// Read from standard input by `node --input-type=module`, in the folder where the package is installed;
// ANTHROPIC_BASE_URL and ANTHROPIC_API_KEY say where and as whom. Prints {"async": {call: outcome}}; an outcome
// has what the call returned, or raised, and the requests it made as [method, url, status]. With KEYS_IN_TURN each
// request of its own key has the next of these keys in place of it.

import Anthropic, { toFile } from "@anthropic-ai/sdk";
import { betaTool } from "@anthropic-ai/sdk/helpers/beta/json-schema";

const MODEL = "claude-sonnet-5-5";
const ASKED = {
  model: MODEL,
  max_tokens: 2048,
  messages: [{ role: "user", content: "What is a façade — in 30 words?" }],
};
const TOOL = {
  name: "get_weather",
  description: "The weather in a city.",
  input_schema: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
};
const CONTENT = Buffer.from("\0\xff line\r\n".repeat(1000), "latin1");
const STATUSES = [400, 403, 404, 500, 529];

const KEYS = (process.env.KEYS_IN_TURN ?? "").split(" ").filter(Boolean);

let requests = [];
let signed = 0;

/** The headers with the next of the keys in place of the program's own, if there are any. */
function inTurn(headers) {
  const own = `Bearer ${process.env.ANTHROPIC_API_KEY}`;
  if (!KEYS.length || new Headers(headers).get("authorization") !== own) return headers;
  const changed = new Headers(headers);
  changed.set("authorization", `Bearer ${KEYS[signed++ % KEYS.length]}`);
  return changed;
}

/** `fetch`, writing down what it is asked. */
async function fetchLogged(url, init) {
  const response = await fetch(url, { ...init, headers: inTurn(init.headers) });
  requests.push([init.method.toUpperCase(), String(url), response.status]);
  return response;
}

const client = new Anthropic({ fetch: fetchLogged });
const impatient = client.withOptions({ maxRetries: 0 });

/** All items of a stream or of a list with pages. */
async function every(source) {
  const items = [];
  for await (const item of source) items.push(item);
  return items;
}

/** A stream's events up to where it breaks, and the error. */
async function broken(wish) {
  const events = [];
  try {
    const options = { headers: { "x-simulate": wish } };
    for await (const event of await client.messages.create({ ...ASKED, stream: true }, options)) events.push(event);
  } catch (error) {
    return { events, raised: raised(error) };
  }
  return { events };
}

const ANSWERED = {
  create: () => client.messages.create({ ...ASKED, system: "Answer briefly." }),

  async headers() {
    return Object.fromEntries((await client.messages.create(ASKED).asResponse()).headers);
  },

  async "create stream"() {
    return every(await client.messages.create({ ...ASKED, stream: true }));
  },

  async "stream helper"() {
    const stream = client.messages.stream(ASKED);
    return { events: await every(stream), message: await stream.finalMessage() };
  },

  async thinking() {
    const budget = { type: "enabled", budget_tokens: 1024 };
    return every(await client.messages.create({ ...ASKED, thinking: budget, stream: true }));
  },

  async "tool use"() {
    const question = { role: "user", content: "What is the weather in Paris?" };
    const call = await client.messages.create({ ...ASKED, tools: [TOOL], messages: [question] });
    const result = { type: "tool_result", tool_use_id: call.content.at(-1).id, content: "18 °C" };
    const turns = [
      question,
      { role: "assistant", content: call.content },
      { role: "user", content: [result] },
    ];
    return [call, await client.messages.create({ ...ASKED, tools: [TOOL], messages: turns })];
  },

  async "tool runner"() {
    const { input_schema, ...named } = TOOL;
    const tool = betaTool({ ...named, inputSchema: input_schema, run: ({ city }) => `18 °C in ${city}` });
    const messages = [{ role: "user", content: "What is the weather in Paris?" }];
    return every(client.beta.messages.toolRunner({ ...ASKED, messages, tools: [tool] }));
  },

  "count tokens": () => client.messages.countTokens({ model: MODEL, messages: ASKED.messages }),

  async models() {
    return [await every(client.models.list({ limit: 5 })), await client.models.retrieve(MODEL)];
  },

  async files() {
    const file = await toFile(CONTENT, "ünïcode.txt", { type: "text/plain" });
    const uploaded = await client.files.upload({ file });
    const content = await client.files.download(uploaded.id);
    return [
      uploaded,
      await client.files.retrieveMetadata(uploaded.id),
      await every(client.files.list({ limit: 1 })),
      Buffer.from(await content.arrayBuffer()).toString("latin1"),
      await client.files.delete(uploaded.id),
    ];
  },

  async batches() {
    const { batches } = client.messages;
    const asked = { requests: ["first", "second"].map((name) => ({ custom_id: name, params: ASKED })) };
    const created = await batches.create(asked);
    const ended = await batches.retrieve(created.id);
    const results = await every(await batches.results(created.id));
    const canceled = await batches.create(asked);
    return [
      created,
      ended,
      results,
      await batches.cancel(canceled.id),
      await every(batches.list({ limit: 1 })),
      await every(await batches.results(canceled.id)),
      await batches.delete(created.id),
    ];
  },
};

// After these the ids differ: a proxy may try one request several times.
const REFUSED = {
  "error mid-stream": () => broken("error-mid-stream; after-events=5"),
  "cut stream": () => broken("cut; after-events=5"),
  "invalid request": () => client.messages.create({ ...ASKED, max_tokens: 0 }),
  "no such model": () => client.models.retrieve("claude-none"),
  ...Object.fromEntries(
    STATUSES.map((status) => [
      `status ${status}`,
      () => impatient.messages.create(ASKED, { headers: { "x-simulate": String(status) } }),
    ]),
  ),
  "wrong key": () => client.withOptions({ apiKey: "not-a-key-of-this-proxy" }).messages.create(ASKED),
};

// After this there may be no account left to ask. Without a proxy, `should-retry` spares the hour's sleep.
const LIMITED = {
  "rate limit": () =>
    client.messages.create(ASKED, { headers: { "x-simulate": "429; retry-after=3600; should-retry=false" } }),
};

/** What a program sees of an error. */
function raised(error) {
  const { status, message, error: body, requestID, type } = error;
  return { class: error.constructor.name, status_code: status, message, body, request_id: requestID, type };
}

const outcomes = {};
for (const [name, call] of Object.entries({ ...ANSWERED, ...REFUSED, ...LIMITED })) {
  requests = [];
  try {
    outcomes[name] = { returned: await call(), requests };
  } catch (error) {
    if (!(error instanceof Anthropic.APIError)) throw error;
    outcomes[name] = { raised: raised(error), requests };
  }
}
process.stdout.write(JSON.stringify({ async: outcomes }));
