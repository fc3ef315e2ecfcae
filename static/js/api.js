/** Calls of the admin API, with the session's cookie. */

/** `status` 0: no answer came. `details` is the whole error of the answer; the id stands in the log. */
function failure(status, details, headers) {
	const id = headers?.get("x-request-id"), message = details.message + (id ? ` Request id: ${id}` : "");
	const retryAfter = Number(headers?.get("retry-after"));
	return Object.assign(new Error(message), { status, details, type: details.type, retryAfter });
}

/** The answer's JSON, or its text. The window gets "signed-out" where there is no session any more. */
export async function api(method, path, body = undefined, { ifMatch } = {}) {
	const headers = { "Content-Type": "application/json" };
	if (ifMatch) headers["If-Match"] = `"${ifMatch}"`;
	let response, data;
	try {
		response = await fetch(new URL(path, document.baseURI),
			{ method, headers, cache: "no-store", body: JSON.stringify(body) });
		data = await response.text();
	} catch {
		throw failure(0, { type: "unreachable", message: "The server cannot be reached." });
	}
	try {
		data = JSON.parse(data);
	} catch { /* CSV, or the error page of a proxy between */ }
	if (response.ok) return data;
	if (response.status === 401 && !path.startsWith("api/auth/")) dispatchEvent(new Event("signed-out"));
	const unknown = { type: "http", message: `The server answered ${response.status}.` };
	throw failure(response.status, data?.error ?? unknown, response.headers);
}
