// @ts-check
/** The texts of the frame and the first views; another language is another such file. */
export default {
  active: "Active", rate_limited: "Rate limited", invalid: "Invalid", inactive: "Inactive",
  healthy: "Healthy", degraded: "Degraded", unhealthy: "Unhealthy", errors: "errors", all: "All",
  and: " and ", retry: "Retry", reload: "Reload", undo: "Undo", dismiss: "Dismiss", export: "Export",

  overview: "Overview", accounts: "Accounts", sessions: "Sessions", tokens: "Client keys", usage: "Usage",
  events: "Events", connect: "Connect a client", settings: "Settings & help", more: "More",
  log_out: "Log out", view_failed: "This page could not be loaded", not_sent: "Offline: not sent",
  outdated: "Dashboard updated", state_connecting: "Connecting…", state_live: "Live",
  state_reconnecting: "Reconnecting in {wait} · ", state_polling: "Polling: ",
  state_full: "Too many dashboards are open · ", "state_signed-out": "Signed out",
  polling_why: "WebSocket blocked, probably by the reverse proxy", how_to_fix: "How to fix",
  retry_now: "Retry now", lost: "Connection lost at {at}. What you see may be out of date.",
  live_again_one: "Live again · 1 change applied", live_again_other: "Live again · {n} changes applied",
  announce_health: "System {status}",

  sign_in_title: "Sign in", admin_key: "Admin key", show: "Show", hide: "Hide", sign_in: "Sign in",
  signing_in: "Signing in…", wrong_key: "That key is not valid.",
  too_many: "Too many attempts. Try again in {n} s.", unreachable: "The server cannot be reached.",

  search: "Search", search_in: "Search {what}", sort_by: "Sort by", sort_usual: "Usual order",
  new_order: "New order · Apply", selected: "{n} selected", select: "Select {name}",
  select_page: "Select all on this page", clear_selection: "Clear selection", actions: "Actions",
  actions_for: "Actions for {name}", pages: "Pages", previous: "Previous", next: "Next",
  range: "{from}–{to} of {n}", no_match: "No {noun} matches {filters}.", clear_filters: "Clear filters",
  not_loaded: "Could not load.",

  account: "account", status: "status", name: "Name", state: "Status", expires: "Token expires",
  resets: "Limit resets", in_flight: "In flight", requests: "Requests 24 h", tokens_24h: "Tokens in / out",
  refresh_error: "Last refresh error", last_used: "Last used", limited: "Limited", for_span: "for {span}",
  refreshing: "refreshing…", api_key: "API key", reauthorise: "Re-authorise", reactivate: "Reactivate",
  refresh: "Refresh now", refresh_now: "Refresh now", deactivate: "Deactivate", open: "Open",
  rename: "Rename", delete: "Delete", add_account: "Add account",
  no_accounts: "No accounts yet. Add one to start serving requests.",

  health: "Health", all_well: "Every account in use is well.", running: "Up {span} · version {version}",
  insecure: "Served without TLS: keys and tokens cross the network in the clear.",
  draining: "Draining: new requests are refused.", streams: "in flight", requests_min: "requests/min",
  tokens_min: "tokens/min", requests_today: "requests today", cost_today: "cost today",
  next_reset: "next limit reset", attention: "Needs attention", no_attention: "Nothing needs you.",
  refresh_fails: "refresh fails: {error}", expires_soon: "token expires in {in}",
  all_limited: "All usable accounts are rate limited", last_events: "Last events",
  all_events: "All events", no_events: "Nothing has happened since {at} (server start).",
};
