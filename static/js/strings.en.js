/** The texts of the frame and the first views, but for those that read like their key: see `t`. */
export default {
	and: " and ",

	tokens: "Client keys", connect: "Connect a client", settings: "Settings & help",
	view_failed: "This page could not be loaded", not_sent: "Offline: not sent", outdated: "Dashboard updated",
	state_connecting: "Connecting…", state_live: "Live", state_reconnecting: "Reconnecting in {wait} · ",
	state_polling: "Polling: ", state_full: "Too many dashboards are open · ", "state_signed-out": "Signed out",
	polling_why: "WebSocket blocked, probably by the reverse proxy",
	lost: "Connection lost at {at}. What you see may be out of date.", live_again_one: "Live again · 1 change applied",
	live_again_other: "Live again · {n} changes applied", announce_health: "System {status}",

	signing_in: "Signing in…", wrong_key: "That key is not valid.", too_many: "Too many attempts. Try again in {n} s.",

	search_in: "Search {what}", new_order: "New order · Apply", selected: "{n} selected", select: "Select {name}",
	select_page: "Select all on this page", actions_for: "Actions for {name}", range: "{from}–{to} of {n}",
	no_match: "No {noun} matches {filters}.", not_loaded: "Could not load.",

	account: "account", status: "status", state: "Status", expires: "Token expires", resets: "Limit resets",
	requests: "Requests 24 h", tokens_24h: "Tokens in / out", refresh_error: "Last refresh error",
	for_span: "for {span}", refreshing: "refreshing…", api_key: "API key", reauthorise: "Re-authorise",
	refresh: "Refresh now", no_accounts: "No accounts yet. Add one to start serving requests.",

	all_well: "Every account in use is well.",
	insecure: "Served without TLS: keys and tokens cross the network in the clear.",
	draining: "Draining: new requests are refused.", streams: "in flight", requests_min: "requests/min",
	tokens_min: "tokens/min", cost_today: "cost today", next_reset: "next limit reset",
	no_attention: "Nothing needs you.", refresh_fails: "refresh fails: {error}", expires_soon: "token expires in {in}",
	all_limited: "All usable accounts are rate limited", no_events: "Nothing has happened since {at} (server start).",
};
