/** What people paste after they authorised. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { mistake } from "../../static/js/pasted.js";

const CODE = "a-code-long-enough";
const STATE = "a-state";

const RIGHT = {
	"a code": CODE,
	"code#state": `${CODE}#${STATE}`,
	"the address of the way back": `http://localhost/callback?code=${CODE}&state=${STATE}#end`,
	"a code broken over lines": `${CODE.slice(0, 5)}\n  ${CODE.slice(5)}#${STATE}\n`,
};
const WRONG = {
	"": "code_missing",
	abc: "code_missing",
	"http://localhost/callback?state=a-state": "code_missing",
	"123456": "six_digits",
	[`${CODE}#another-state`]: "state_mismatch",
	"http://localhost/callback?error=access_denied": "access_denied",
};

describe("what is right", () => {
	for (const [name, pasted] of Object.entries(RIGHT)) test(name, () => assert.equal(mistake(pasted, STATE), null));
});

describe("what is wrong", () => {
	for (const [pasted, found] of Object.entries(WRONG)) {
		test(`"${pasted}" is ${found}`, () => assert.equal(mistake(pasted, STATE), found));
	}
});
