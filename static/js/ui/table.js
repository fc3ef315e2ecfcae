/** A live table over a topic of the store: search, chips, sort, pages of 100. ui/acting.js: what is done to rows.
 *
 * A row is made once and then patched. The order is calm: it changes at most every 5 s, and under the pointer or
 * the focus only when asked to. The style sheet has the widths, `.grid.<topic>{--cols:…}`; where there is less
 * room, columns of the class `low` go to a second line.
 *
 * @typedef {{act: string, label: string, danger?: boolean}} Act
 * @typedef {{key: string, label: string, cls?: string, text?: Function, cell?: Function, sort?: Function,
 *   title?: Function}} Column  `cell(td)` fills a cell and gives its patch, the others are given the item
 */
import { act, h, keyed, setAttr, setText } from "../dom.js";

const PAGE = 100;
const CALM_MS = 5000;

/** @param {{topic: string, caption: string, noun?: string, columns: Column[], name: Function, search: Function,
 *   order: any, chips?: {param, label, options: {value, label}[], of}, primary?: (item) => Act|null,
 *   menu?: (item) => Act[], bulk?: Act[], act: Function, empty: {text: string, act?: string, label?: string},
 *   toolbar?: Node[]}} spec */
export function table(app, spec, signal) {
  const { store, t } = app;
  const { topic, columns, chips, empty, caption } = spec;
  const items = store.items(topic);
  const rows = new Map(), seen = new Map();
  const asked = (name) => app.query().get(name) ?? "";
  let q = asked("q"), sort = asked("sort"), page = Number(asked("p")) || 1;
  let chip = chips ? asked(chips.param) : "";
  let order = [], moved = 0, looked = 0, awaited, acting, loading;

  const button = (name, label, attrs) => h("button", { "data-act": name, ...attrs }, label);
  const head = (key, cls, ...content) =>
    h("th", { role: "columnheader", scope: "col", class: `c-${key} ${cls ?? ""}` }, content);
  const search = h("input", { type: "search", value: q, placeholder: t("search"),
    "aria-label": t("search_in", { what: caption }) });
  const options = chips ? [{ value: "", label: t("all") }, ...chips.options].map(({ value, label }) => {
    const n = h("small");
    return { value, label, n, el: button("chip", [label, " ", n], { value }) };
  }) : [];
  const offer = button("apply", t("new_order"), { class: "offer", hidden: true });
  const heads = columns.map(({ key, label, cls, sort: by }) =>
    head(key, cls, by ? button("sort", label, { value: key }) : label));
  const all = h("input", { type: "checkbox", "aria-label": t("select_page") });
  const body = h("tbody", { role: "rowgroup" });
  const grid = h("table", { class: `grid ${topic}`, role: "table" }, h("caption", { class: "sr" }, caption),
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, spec.bulk && head("pick", "", all), heads,
      spec.primary && head("acts", "", h("span", { class: "sr" }, t("actions"))))), body);
  const note = h("div", { class: "note" });
  const previous = button("turn", t("previous"), { value: -1 });
  const range = h("span"), next = button("turn", t("next"), { value: 1 });
  const pager = h("nav", { class: "pager", "aria-label": t("pages") }, previous, range, next);
  const group = chips && h("div", { class: "chips", role: "group", "aria-label": chips.label },
    options.map((option) => option.el));
  const el = h("div", null, h("div", { class: "toolbar" }, search, group, spec.toolbar), offer, grid, note, pager);

  const shows = (item) => (!chip || chips?.of(item) === chip) &&
    (!q || spec.search(item).toLowerCase().includes(q.toLowerCase()));
  const look = (item) => `${chips?.of(item)} ${shows(item)}`;
  const sorted = () => sort.replace("-", "");

  function compare([, a], [, b]) {
    const by = columns.find(({ key }) => key === sorted())?.sort;
    if (!by) return spec.order(a, b);
    const x = by(a), y = by(b), way = sort[0] === "-" ? -1 : 1;
    return Number(x == null) - Number(y == null) || (x < y ? -way : x > y ? way : spec.order(a, b));
  }

  /** Brings the rows in line with the filter; in order too, if `anew` or where it disturbs nobody. */
  function arrange(anew = false) {
    const wanted = [...items].filter(([, item]) => shows(item)).sort(compare).map(([id]) => id);
    const held = acting?.menus > 0 || grid.matches(":hover,:focus-within");
    looked = performance.now();
    if (anew || !order.length || (!held && looked - moved >= CALM_MS)) {
      order = wanted;
      moved = looked;
    } else {
      const still = new Set(wanted), had = new Set(order);
      order = order.filter((id) => still.has(id));
      wanted.forEach((id, at) => had.has(id) || order.splice(at && order.indexOf(wanted[at - 1]) + 1, 0, id));
    }
    offer.hidden = !held || order.every((id, at) => id === wanted[at]);
    draw();
  }

  function draw() {
    const pages = Math.ceil(order.length / PAGE) || 1;
    page = Math.min(page, pages);
    const from = (page - 1) * PAGE, ids = order.slice(from, from + PAGE), ready = store.ready(topic);
    const bone = () => h("tr", { class: "bone" });
    if (!rows.size) body.replaceChildren(...(ready ? [] : Array.from({ length: 8 }, bone)));
    keyed(body, ids, rows, make);
    if (!body.querySelector("[tabindex='0']")) body.firstElementChild?.setAttribute("tabindex", "0");
    setText(range, t("range", { from: from + 1, to: from + ids.length, n: order.length }));
    pager.hidden = pages < 2;
    previous.disabled = page < 2;
    next.disabled = page >= pages;
    const way = sort[0] === "-" ? "descending" : "ascending";
    heads.forEach((th, at) => setAttr(th, "aria-sort", sorted() === columns[at].key && way));
    for (const { value, n, el: option } of options) {
      setText(n, String([...items.values()].filter((item) => !value || chips?.of(item) === value).length));
      setAttr(option, "aria-pressed", String(value === chip));
    }
    explain(ready);
    acting?.pick();
    if (rows.has(awaited)) rows.get(awaited).el.focus(), (awaited = null);
  }

  /** Says why there are no rows. */
  function explain(ready) {
    const lost = !ready && app.live.lostAt;
    const { label: chosen } = options.find(({ value }) => value === chip) ?? {};
    const filters = [q && `'${q}'`, chip && `${chips?.label} ${chosen}`];
    const { text, act: name, label } = lost ? { text: t("not_loaded"), act: "live-retry", label: t("retry") }
      : !items.size ? empty : { act: "clear", label: t("clear_filters"),
        text: t("no_match", { noun: spec.noun, filters: filters.filter(Boolean).join(t("and")) }) };
    note.hidden = order.length > 0 || (!ready && !lost);
    if (note.firstChild?.textContent === text) return;
    note.replaceChildren(h("p", { role: "status" }, text));
    if (name) note.append(button(name, label, { "data-write": name === empty.act }));
  }

  function make(id) {
    const box = h("input", { type: "checkbox" });
    const primary = button("run", "", { "data-write": true });
    const more = button("menu", "⋯", { class: "icon", "aria-haspopup": "menu", "data-write": true });
    const cell = (key, cls, ...content) => h("td", { role: "cell", class: `c-${key} ${cls ?? ""}` }, content);
    const tr = h("tr", { role: "row", "data-id": id, tabindex: -1 });
    if (spec.bulk) tr.append(cell("pick", "", h("label", null, box)));
    const writes = columns.map(({ key, cls, label, cell: fill, text, title }, at) => {
      const td = at ? cell(key, cls) : h("th", { role: "rowheader", scope: "row", class: `c-${key}` });
      setAttr(td, "data-label", label);
      tr.append(td);
      const write = fill ? fill(td) : (item, now) => setText(td, text?.(item, now) ?? "");
      return title ? (item, now) => (write(item, now), setAttr(td, "title", title(item))) : write;
    });
    if (spec.primary) tr.append(cell("acts", "", primary, more));
    function patch(item, now) {
      for (const write of writes) write(item, now);
      const name = spec.name(item), main = spec.primary?.(item);
      setAttr(box, "aria-label", t("select", { name }));
      setAttr(more, "aria-label", t("actions_for", { name }));
      setAttr(primary, "hidden", !main);
      setAttr(primary, "value", main?.act);
      setText(primary, main?.label ?? "");
    }
    patch(items.get(id), app.now());
    return { el: tr, box, more, patch };
  }

  /** After a choice of what is shown. Another filter ends the selection: nothing unseen is ever acted on. */
  function show(filtered = true) {
    if (filtered) acting?.clear(), (page = 1);
    seen.clear();
    for (const [id, item] of items) seen.set(id, look(item));
    app.setQuery({ q, sort, p: page > 1 ? String(page) : "", ...(chips && { [chips.param]: chip }) });
    arrange(true);
  }

  /** What is done to rows is loaded when somebody begins to. */
  async function then(name, ...args) {
    loading ??= import("./acting.js").then((module) =>
      (acting = module.acting(app, spec, { grid, body, rows, all })));
    (await loading)[name](...args);
  }

  act(el, {
    chip: ({ value }) => ((chip = value), show()),
    sort({ value }) {
      sort = sort === value ? `-${value}` : sort === `-${value}` ? "" : value;
      show(false);
    },
    apply: () => arrange(true),
    turn: ({ value }) => ((page += Number(value)), show(false), grid.scrollIntoView()),
    clear: () => ((q = chip = search.value = ""), show(), search.focus()),
    run: (source) => then("run", source),
    menu: (source) => then("menu", source),
    [empty.act ?? ""]: () => spec.act(empty.act, [], note),
  }, signal);
  search.oninput = () => ((q = search.value.trim()), show());
  grid.onchange = ({ target }) => then("check", target, target.checked);
  body.onkeydown = (event) => {
    const { key, target } = event;
    if (event.ctrlKey || event.metaKey || event.altKey || (key === "Enter" && !target.dataset.id)) return;
    const letters = app.settings.get("shortcuts") === "off" ? "" : "jkx.";
    if (!["ArrowDown", "ArrowUp", "Enter", ...letters].includes(key)) return;
    event.preventDefault();
    then("key", key, target);
  };

  return {
    el,
    patch(dirty) {
      if (!dirty.has(topic)) return;
      let other = !rows.size;
      for (const id of dirty.get(topic)) {
        const item = items.get(id), is = item && look(item);
        other ||= is !== seen.get(id);
        seen.set(id, is);
        if (item) rows.get(id)?.patch(item, app.now());
      }
      if (other) arrange();
    },
    tick(now) {
      for (const [id, row] of rows) if (items.has(id)) row.patch(items.get(id), now);
      if (performance.now() - looked > CALM_MS) arrange();
    },
    /** The items that pass the filter, those of other pages too. */
    shown: () => order.map((id) => items.get(id)),
    /** Moves the focus to a row, now or when it comes. */
    focusRow(id) {
      awaited = id;
      page = Math.floor(order.indexOf(id) / PAGE) + 1 || page;
      draw();
    },
  };
}
