/** What tables have in common: columns, and acts on rows, each called by the key of its label. */
import { h, setText } from "../dom.js";
import { compact, number } from "../format.js";
import { spark } from "./spark.js";

export function columns({ t }) {
  const column = (key, text, more) => ({ key, label: t(key), text, ...more });
  return {
    column,
    /** Of one field, by which rows can be sorted. */
    plain: (key, field, text, more) =>
      column(key, (item) => text(item[field], item), { sort: (item) => item[field], ...more }),
    /** Of the last 24 h. */
    usage: (cls) => [
      column("requests", null, { cls, sort: ({ day }) => day.requests, cell(td) {
        const count = h("span"), line = spark();
        td.append(line.el, count);
        return (item) => (setText(count, number(item.day.requests)), line.patch(item.spark));
      } }),
      column("tokens_24h", ({ day }) => `${compact(day.input_tokens)} / ${compact(day.output_tokens)}`,
        { cls, sort: ({ day }) => day.input_tokens + day.output_tokens }),
    ],
    choice: (name) => ({ act: name, label: t(name), danger: /delete|revoke/.test(name) }),
  };
}
