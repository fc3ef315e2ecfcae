/** Times and numbers as people read them. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { ago, clock, compact, day, duration, money, ms, number, sentence, share, span, timed, until } from "../../static/js/format.js";

const NOW = Date.parse("2026-03-01T12:00:00Z");
const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;

/** One test for each case: what goes in, and what comes out. */
function cases(name, fn, table) {
	describe(name, () => {
		for (const [input, output] of table) {
			test(`${JSON.stringify(input)} is "${output}"`, () => assert.equal(fn(...[input].flat()), output));
		}
	});
}

cases("numbers", number, [[0, "0"], [12_430, "12,430"], [[null], "–"], [[undefined], "–"]]);
cases("large numbers", compact, [[999, "999"], [12_430, "12.4K"], [1_200_000, "1.2M"], [[null], "–"]]);
cases("money", money, [[0, "$0.00"], [1.234, "$1.23"], [0.1, "$0.10"], [0.0042, "$0.0042"], [[null], "unpriced"],
	[[1.234, 3], "$1.23 + 3 unpriced"], [[null, 3], "unpriced"], [[0.5, 0], "$0.50"], [[undefined], "–"]]);
cases("shares", share, [[0, "0 %"], [1, "100 %"], [0.97449, "97.4 %"], [0.99961, "100 %"], [[null], "–"]]);
cases("durations", duration, [
	[0, "0s"], [-5 * SECOND, "0s"], [42.9 * SECOND, "42s"], [MINUTE, "1m 00s"], [12 * MINUTE + 5 * SECOND, "12m 05s"],
	[3 * HOUR + 12 * MINUTE, "3h 12m"], [52 * HOUR, "2d 04h"],
]);
cases("spans", span, [[42 * SECOND, "42s"], [125 * SECOND, "2m"], [23 * HOUR, "23h"], [52 * HOUR, "2d"]]);
cases("how long ago", (at) => ago(at, NOW), [
	["2026-03-01T11:48:00Z", "12m ago"], ["2026-03-01T11:59:56Z", "just now"], ["2026-03-01T12:00:09Z", "just now"],
	[[null], "–"],
]);
cases("how long until", (at, past) => until(at, NOW, past), [
	["2026-03-01T15:12:00Z", "3h 12m"], ["2026-03-01T11:58:00Z", "expired 2m ago"],
	[["2026-03-01T11:58:00Z", "resetting"], "resetting…"], [[null], "–"],
]);

describe("moments", () => {
	test("RFC 3339 is read", () => assert.equal(ms("2026-03-01T12:00:00Z"), NOW));
	test("ms are taken as they are", () => assert.equal(ms(NOW), NOW));
});

describe("clocks", () => {
	test("they show seconds", () => assert.equal(clock(NOW, { utc: true }), "12:00:00"));
	test("they can do without", () => assert.equal(clock(NOW, { utc: true, seconds: false }), "12:00"));
	test("they name the zone", () => assert.equal(clock(NOW, { utc: true, zone: true }), "12:00:00 UTC"));
	test("they name the day if it is another one", () =>
		assert.equal(clock("2026-02-28T12:00:00Z", { utc: true, now: NOW }), "28 Feb, 12:00:00"));
	test("and the year if that is another one", () =>
		assert.equal(clock("2030-01-01T00:00:00Z", { utc: true, now: NOW }), "1 Jan 2030, 00:00:00"));
	test("they do not if it is today", () =>
		assert.equal(clock("2026-03-01T00:00:00Z", { utc: true, now: NOW }), "00:00:00"));
	test("nothing is a dash", () => assert.equal(clock(null), "–"));
	test("what is no time is a dash", () => assert.equal(clock("abc", { utc: true, now: NOW }), "–"));
});

describe("times in texts", () => {
	const time = "2026-03-01T12:00:00.123Z";
	/** @type {(at: string) => string} */
	const utc = (at) => clock(at, { utc: true, seconds: false });
	test("those of an event are parts", () => {
		const parts = ["team is limited until ", { time }, ": 429"];
		assert.equal(sentence({ text: "in words of its own", parts }, utc), "team is limited until 12:00: 429");
	});
	test("an event without times is its text", () => assert.equal(sentence({ text: "so it is" }, utc), "so it is"));
	test("those of a reason are found", () =>
		assert.equal(timed(`429, resets ${time}, or 2026-03-01T13:00:00Z`, utc), "429, resets 12:00, or 13:00"));
	test("a day has a name", () => assert.match(day("2026-03-01T23:59:00Z", true), /^Sunday,? 1 March 2026$/));
});
