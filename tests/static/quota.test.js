/** The words for quota windows, and what is known of them. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { fullAt, levelOf, nameOf, nextLimited, perCent, tightest, usedOf, wordsOf } from "../../static/js/ui/quota.js";
import { t } from "../../static/js/texts.js";

const NOW = Date.parse("2027-01-15T08:00:00Z");
const LATER = "2027-01-15T09:00:00.000Z";
const window = (name, used, resets_at = LATER) => ({ window: name, used, resets_at });

describe("a window", () => {
	for (const [name, words] of Object.entries({
		"5h": "5 hours", "1h": "1 hour", "7d": "7 days", "2w": "2 weeks", "30m": "30 minutes",
		"7d_opus": "Opus, 7 days", "7d_oi": "Some models, 7 days", requests: "Requests per minute",
		input_tokens: "Input tokens per minute", output_tokens: "Output tokens per minute", tokens: "Tokens per minute",
	})) {
		test(`${name} is called ${words}`, () => assert.equal(nameOf(name, t), words));
	}

	test("is as used as the server says, until its reset", () => {
		assert.equal(usedOf(window("5h", 0.4), NOW), 0.4);
		assert.equal(usedOf(window("5h", 0.4, null), NOW), 0.4);
		assert.equal(usedOf(window("5h", 0.4, "2027-01-15T08:00:00.000Z"), NOW), null);
	});

	test("says in words that it nears its end", () => {
		assert.deepEqual([0.799, 0.8, 0.95, 1, 1.02].map((used) => wordsOf(used, t)),
			["79 %", "80 %, running low", "95 %, nearly used up", "100 %, used up", "102 %, used up"]);
		assert.equal(wordsOf(null, t), "unknown since its reset");
		assert.deepEqual([null, 0.79, 0.8, 0.95].map((used) => levelOf(used)?.kind), [undefined, undefined, "warn", "error"]);
	});

	test("is used up no sooner than it is", () => {
		assert.deepEqual([0, 0.29, 0.999, 1].map(perCent), ["0 %", "29 %", "99 %", "100 %"]);
	});
});

test("the tightest window is that of which most is used, and of which something is known", () => {
	const quota = [window("5h", 0.9, "2027-01-15T07:00:00.000Z"), window("7d", 0.3), window("1d", null), window("1h", 0)];
	assert.deepEqual(tightest({ quota }, NOW), { window: quota[1], used: 0.3 });
	assert.equal(tightest({ quota: [quota[0]] }, NOW), null);
	assert.equal(tightest({ quota: [quota[3]] }, NOW).used, 0);
});

describe("at the pace since it began, a window", () => {
	const at = (name, used, resets_at) => {
		const full = fullAt(window(name, used, resets_at), NOW);
		return full && new Date(full).toISOString();
	};

	test("is used up before its reset, or not", () => {
		assert.equal(at("5h", 0.9), "2027-01-15T08:26:40.000Z"); // 90 % in 4 h
		assert.equal(at("5h", 0.8), null);
		assert.equal(at("7d_opus", 0.5, "2027-01-19T08:00:00.000Z"), "2027-01-18T08:00:00.000Z");
	});

	test("tells nothing if it is used up, unused or unknown, has just begun, or lasts no longer than a minute", () => {
		assert.deepEqual([1, 0, null].map((used) => at("5h", used)), [null, null, null]);
		assert.equal(at("5h", 0.5, null), null);
		assert.equal(at("5h", 0.5, "2027-01-15T12:46:00.000Z"), null);
		assert.equal(at("requests", 0.99), null);
	});
});

test("the account that is limited next is the first that uses up a window, of those in service", () => {
	const account = (status, ...quota) => ({ status, quota });
	const next = account("active", window("7d", 0.1), window("5h", 0.9));
	const others = [account("active", window("5h", 0.85)), account("inactive", window("5h", 0.99)), account("active")];
	const { account: found, window: name } = nextLimited([others[0], next, ...others.slice(1)], NOW);
	assert.deepEqual([found, name], [next, "5h"]);
	assert.equal(nextLimited(others.slice(1), NOW), null);
});
