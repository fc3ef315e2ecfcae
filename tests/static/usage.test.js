/** What usage comes to. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { added, bucketsOf, errorsOf, firstByte, fromCache, intervalKept, requestsOf, tokensIn, tokensOf } from "../../static/js/usage.js";

const USAGE = { input_tokens: 10, cache_creation_input_tokens: 20, cache_read_input_tokens: 70, output_tokens: 5 };
const BUCKET = { start: 60, span_s: 60, ok: 5, aborted: 1, client_error: 2, limited: 3, refused: 4, upstream_error: 6,
	...USAGE, ttfb_ms: 900, ttfb_count: 3, cost_usd: 0.5, unpriced_requests: 1 };

describe("usage", () => {
	test("every request counts once", () => assert.equal(requestsOf(BUCKET), 21));
	test("what was cut is no error", () => assert.equal(errorsOf(BUCKET), 15));
	test("input is all that was read, from the cache as well", () => assert.equal(tokensIn(USAGE), 100));
	test("tokens are those of input and output", () => assert.equal(tokensOf(USAGE), 105));
	test("the part from the cache is one of the input", () => assert.equal(fromCache(USAGE), 0.7));
	test("without input there is no such part", () =>
		assert.equal(fromCache({ ...USAGE, input_tokens: 0, cache_creation_input_tokens: 0, cache_read_input_tokens: 0 }), null));
	test("an answer without usage has no tokens", () =>
		assert.equal(tokensIn({ input_tokens: null, cache_creation_input_tokens: null, cache_read_input_tokens: null }), 0));
	test("the first byte is a mean", () => assert.equal(firstByte(BUCKET), 300));
	test("which is not known without one", () => assert.equal(firstByte({ ...BUCKET, ttfb_count: 0 }), null));
	test("buckets add up", () => {
		const sums = added([BUCKET, { ...BUCKET, start: 120 }]);
		assert.deepEqual([sums.start, sums.span_s, sums.ok, sums.cost_usd], [60, 120, 10, 1]);
		assert.equal(added([]).span_s, 0);
	});
	test("columns become buckets", () =>
		assert.deepEqual(bucketsOf({ id: "a", name: "b", ok: [1, 2], cost_usd: [0, 0.5] }, 600, 60),
			[{ start: 600, span_s: 60, ok: 1, cost_usd: 0 }, { start: 660, span_s: 60, ok: 2, cost_usd: 0.5 }]));
});

describe("the interval of an export", () => {
	const now = Date.parse("2027-01-15T08:10:00Z");
	const cases = {
		minute: ["2027-01-15T08:09:00Z", "2027-01-15T06:10:00Z"],
		hour: ["2027-01-15T06:09:00Z", "2027-01-07T08:10:00Z"],
		day: ["2027-01-07T08:09:00Z", "2026-12-16T00:00:00Z"],
	};
	for (const [interval, times] of Object.entries(cases)) {
		test(`is the shortest that is kept: ${interval}`, () => {
			for (const from of times) assert.equal(intervalKept(Date.parse(from), now), interval, from);
		});
	}
});
