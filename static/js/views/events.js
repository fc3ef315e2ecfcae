// @ts-check
/** What has happened, newest first. What is being read does not move: newer events wait behind a button. */
import { api } from "../api.js";
import { act, h, keyed, setAttr, setText } from "../dom.js";
import { clock, ms } from "../format.js";
import { offer } from "../ui/export.js";

const MOST = 500;
const LEVELS = { info: "○", warning: "◐", error: "✕" };
const KINDS = { account: "accounts", token: "tokens", session: "sessions", health: "health", admin: "admins",
  server: "server" };
const FIELDS = ["id", "at", "level", "kind", "text", "account_id", "token_id", "session_id"];

/** When the feed was lost and when it was back, since this view was first opened. */
const losses = [];
let lostAt;

function watch({ live }) {
  if (lostAt === undefined) live.onstate(() => {
    if (lostAt && !live.lostAt) losses.push({ from: lostAt, to: live.now() });
    lostAt = live.lostAt;
  });
  lostAt = live.lostAt;
}

export default async function mount(root, app) {
  await Promise.all([app.strings("views"), app.css("views")]);
  watch(app);
  const { store, t, settings } = app, items = store.items("events"), stop = new AbortController();
  const rows = new Map(), loaded = new Map();
  let following = true, shown = [];

  const filters = Object.entries({
    level: Object.keys(LEVELS).map((level) => [level, t(`events.${level}`)]),
    kind: Object.entries(KINDS).map(([kind, key]) => [kind, t(key)]),
    account: [...store.items("accounts").values()].map(({ id, name }) => [id, name]),
  }).map(([param, values]) => {
    const name = t(`events.${param}`), now = app.query().get(param);
    const select = h("select", { "aria-label": name }, [["", name], ...values].map(([value, label]) =>
      h("option", { value, selected: now === value }, label)));
    select.onchange = () => (app.setQuery({ [param]: select.value }), render());
    return select;
  });
  const pass = ({ level, kind, account_id: account }) =>
    [level, kind.split(".")[0], account].every((value, n) => ["", value].includes(filters[n].value));
  const follow = h("button", { "data-act": "follow" }, t("events.pause"));
  const voice = h("input",
    { type: "checkbox", role: "switch", checked: settings.get("announceEvents") === "on" });
  voice.onchange = () => settings.set("announceEvents", voice.checked ? "on" : "off");
  const more = h("button", { class: "offer", "data-act": "newer", hidden: true });
  const list = h("ol"), empty = h("p", { class: "note" });
  const time = (at, seconds = true) =>
    clock(at, { utc: settings.get("time") === "utc", seconds, now: app.now() });

  /** Events, gaps and lost connections by key, newest first. */
  function entries() {
    const found = new Map(), gone = [...losses].reverse();
    for (const event of shown.filter(pass).slice(0, MOST)) {
      while (gone[0]?.to > ms(event.at)) found.set(gone[0].to, gone.shift());
      found.set(`${event.id} ${event.at}`, event); // ids begin anew when the server does
      if (event.skipped && !loaded.has(event.id - 1)) found.set(event.id, event);
    }
    return found;
  }

  function make(key, { id, at, level, text, skipped: n, from, to, account_id: account, account_name: name }) {
    if (to) return h("li", { class: "divider" }, t("events.lost", { from: time(from), to: time(to) }));
    if (key === id) return h("li", { class: "divider" }, t("events.skipped", { n }), " · ",
      h("button", { class: "link", "data-act": "load", value: id }, t("events.load")));
    return h("li", { "data-kind": level }, h("time", { datetime: at }, time(at)),
      h("b", null, `${LEVELS[level]} ${t(`events.${level}`)}`), h("span", null, text),
      store.items("accounts").has(account) && h("a", { href: `#/accounts/${account}` }, name));
  }

  function render() {
    const found = entries(), had = new Set(shown);
    const n = [...items.values()].filter((event) => !had.has(event) && pass(event)).length;
    keyed(list, found.keys(), rows, (key) => ({ el: make(key, found.get(key)) }));
    setText(more, t("events.new", { n }));
    setAttr(more, "hidden", !n);
    setText(empty, items.size ? t("events.no_match")
      : t("no_events", { at: time(store.items("stats").get("health")?.started_at, false) }));
    setAttr(empty, "hidden", found.size || !store.ready("events"));
  }

  function take() {
    shown = [...loaded.values(), ...items.values()].sort((a, b) => ms(b.at) - ms(a.at) || b.id - a.id);
    render();
  }

  act(root, {
    follow() {
      following = !following;
      setText(follow, t(following ? "events.pause" : "events.follow"));
      if (following) take();
    },
    newer() {
      scrollTo(0, 0);
      take();
      root.querySelector("h2").focus();
    },
    async load({ value }) {
      const since = value - items.get(value).skipped - 1;
      const { frames } = await api("GET", `api/live?epoch=${store.epoch}&topics=events:${since}`);
      for (const event of frames.at(-1).items) items.has(String(event.id)) || loaded.set(event.id, event);
      if (!loaded.has(value - 1)) app.toast({ text: t("events.not_kept") });
      take();
    },
    export: (el) => offer(app, el, "events", FIELDS, [...entries().values()].filter((entry) => entry.at)),
  }, stop.signal);
  root.append(h("h2", { tabindex: -1 }, t("events")),
    h("div", { class: "toolbar" }, filters, follow,
      h("label", { class: "row" }, voice, t("settings.announceEvents")),
      h("button", { "data-act": "export" }, t("export"))),
    more, h("div", { role: "log", "aria-live": "off", "aria-label": t("events"), class: "log" }, list), empty);

  return {
    topics: ["events"], title: t("events"), tick() {}, unmount: () => stop.abort(),
    patch(dirty) {
      if (!dirty.has("events")) return;
      for (const event of [...dirty.get("events")].map((id) => items.get(id))) {
        if (voice.checked && shown.length && event && pass(event)) app.announce(event.text);
      }
      if (!shown.length || (following && scrollY < 40)) take();
      else render();
    },
  };
}
