/** Columns that tables have in common. */
import { h, setText } from "../dom.js";
import { compact, number } from "../format.js";
import { spark } from "./spark.js";

/** Of one field, by which rows can be sorted. */
export const plain = (key, field, text, more) =>
	({ key, text: (item) => text(item[field], item), sort: (item) => item[field], ...more });

/** Of the last 24 h. */
export const usage = (cls) => [{ key: "requests", cls, sort: ({ day }) => day.requests, cell(td) {
	const count = h("span"), line = spark();
	td.append(line.el, count);
	return (item) => (setText(count, number(item.day.requests)), line.patch(item.spark));
} }, { key: "tokens_24h", cls, sort: ({ day }) => day.input_tokens + day.output_tokens,
	text: ({ day }) => `${compact(day.input_tokens)} / ${compact(day.output_tokens)}` }];
