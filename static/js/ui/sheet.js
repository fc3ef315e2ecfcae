// @ts-check
/** A plain table of numbers that is patched: `fill` takes lines of [id, texts]; without any it is not shown. */
import { h, keyed, setText } from "../dom.js";

export function sheet(caption, heads) {
  const tbody = h("tbody"), rows = new Map();
  const thead = h("thead", null, h("tr", null, heads.map((head) => h("th", { scope: "col" }, head))));
  const el = h("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": caption, hidden: true },
    h("table", null, thead, tbody));
  const make = () => {
    const cells = heads.map((_, n) => (n ? h("td") : h("th", { scope: "row" })));
    return { el: h("tr", null, cells), cells };
  };
  return {
    el,
    fill(lines) {
      el.hidden = !lines.length;
      keyed(tbody, lines.map(([id]) => id), rows, make);
      for (const [id, texts] of lines) rows.get(id).cells.forEach((cell, n) => setText(cell, texts[n]));
    },
  };
}
