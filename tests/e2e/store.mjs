// The page's store without a page: each line of standard input is one thing that happens to it, each line of standard
// output is what the page would say in its next hello, with `ok: false` where it has asked for one.
import { createInterface } from "node:readline";

const { createStore } = await import(process.argv[2]);
let store = createStore(() => {});

for await (const line of createInterface({ input: process.stdin })) {
  const { does, frame, topics } = JSON.parse(line);
  let ok = true;
  if (does === "open") store = createStore(() => {});
  else if (does === "connect") store.reset();
  else if (does === "accept") ok = store.accept(frame);
  const revs = Object.fromEntries(topics.map((topic) => [topic, store.rev(topic)]));
  const items = does === "show" ? Object.fromEntries(topics.map((t) => [t, Object.fromEntries(store.items(t))])) : null;
  console.log(JSON.stringify({ ok, epoch: store.epoch, revs, items }));
}
