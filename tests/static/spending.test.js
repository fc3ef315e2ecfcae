/** What a client key cost by model, and which of its limits is the fullest. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { barsOf, dearest, partsOf, spanOf, sumOf } from "../../static/js/spending.js";
import { fullest, partOf } from "../../static/js/ui/limits.js";

const NOW = Date.parse("2027-01-15T08:10:00Z");
const at = (time) => Date.parse(time);
const row = (id, cost_usd, more) => ({
	id, name: id, requests: 1, input_tokens: 2, output_tokens: 3, cache_creation_input_tokens: 5, cache_read_input_tokens: 4, unpriced_requests: 0,
	cost_usd, buckets: [], ...more,
});

describe("a span", () => {
	test("of today goes on from midnight", () =>
		assert.deepEqual(spanOf("today", NOW, true), { from: at("2027-01-15T00:00:00Z"), to: null }));

	test("of yesterday is the day before, whole", () =>
		assert.deepEqual(spanOf("yesterday", NOW, true), { from: at("2027-01-14T00:00:00Z"), to: at("2027-01-15T00:00:00Z") }));

	test("of local days begins at their midnight", () => {
		const { from, to } = spanOf("yesterday", NOW, false);
		assert.deepEqual([from, to].map((ms) => new Date(ms).toTimeString().slice(0, 5)), ["00:00", "00:00"]);
		assert.equal(new Date(to).toDateString(), new Date(NOW).toDateString());
	});

	test("of days goes back by their number", () =>
		assert.deepEqual(spanOf("7d", NOW, true), { from: at("2027-01-08T08:10:00Z"), to: null }));
});

describe("the models", () => {
	const six = [row("a", 1), row("b", 6), row("c", null), row("d", 3), row("e", 2), row("f", 5)];

	test("that cost most come first, and unpriced ones last", () =>
		assert.deepEqual(dearest(six).map(({ id }) => id), ["b", "f", "d", "e", "a", "c"]));

	test("have parts of their own up to five; the others are one", () => {
		assert.deepEqual(partsOf(six), ["b", "f", "d", "e", "a", null]);
		assert.deepEqual(partsOf(six.slice(0, 2)), ["b", "a"]);
		assert.deepEqual(partsOf([row(null, 1)]), [""]);
	});

	test("come to a sum, which is unpriced only if nothing has a price", () => {
		assert.equal(sumOf(six).cost_usd, 17);
		assert.equal(sumOf([row("c", null, { unpriced_requests: 2 })]).cost_usd, null);
		assert.deepEqual(sumOf([]).cost_usd, 0);
		assert.equal(sumOf(six).requests, 6);
		assert.equal(sumOf(six).cache_creation_input_tokens, 30);
	});
});

test("there is a bar for each hour, also for those without requests, and nothing of it is lost", () => {
	const rows = [
		row("a", 3, { buckets: [{ start: "2027-01-15T06:00:00.000Z", cost_usd: 1 }, { start: "2027-01-15T08:00:00.000Z", cost_usd: 2 }] }),
		row("b", 4, { buckets: [{ start: "2027-01-15T06:00:00.000Z", cost_usd: 4 }] }),
		row("c", null, { buckets: [{ start: "2027-01-15T06:00:00.000Z", cost_usd: null }] }),
	];
	const report = { from: "2027-01-15T06:00:00.000Z", to: "2027-01-15T09:00:00.000Z", rows };
	const first = at(report.from) / 1000;
	assert.deepEqual(barsOf(report, ["b", null], "hour"), [
		{ start: first, span_s: 3600, m0: 4, m1: 1 },
		{ start: first + 3600, span_s: 3600, m0: 0, m1: 0 },
		{ start: first + 7200, span_s: 3600, m0: 0, m1: 2 },
	]);
});

describe("a limit", () => {
	const meter = (limit, used, reserved, most, resets_at = null) => ({ limit, used, reserved, most, resets_at });

	test("is used by what is held as well, and not after its reset", () => {
		assert.equal(partOf(meter("tokens_per_day", 30, 20, 100, "2027-01-16T00:00:00.000Z"), NOW), 0.5);
		assert.equal(partOf(meter("tokens_per_day", 30, 20, 100, "2027-01-15T08:10:00.000Z"), NOW), 0);
		assert.equal(partOf(meter("concurrent_requests", 3, 0, 4), NOW), 0.75);
	});

	test("is the fullest by its part; without limits there is none", () => {
		const meters = [meter("tokens_per_day", 90, 0, 100), meter("concurrent_requests", 4, 0, 4)];
		assert.equal(fullest({ meters }, NOW).meter.limit, "concurrent_requests");
		assert.equal(fullest({ meters: [] }, NOW), null);
	});
});
