/* NAME: whom to trust, and what it may do. */
#include "tmcp_policy.h"

/* A peer is trusted when each of its TEEs is proven, real and closed, runs
 * firmware without known holes, and runs code that we know. */
static void appraise(tmcp_value doc) {
  tmcp_value devices = tmcp_get(doc, "devices");
  uint32_t cpus = 0;
  for (uint32_t i = 0; i < tmcp_len(devices); i++) {
    tmcp_value d = tmcp_at(devices, i);
    if (!tmcp_bool(tmcp_get(d, "proven")))
      tmcp_deny("not-proven", "the evidence is not proven", tmcp_get(d, "proven"));
    else if (tmcp_bool(tmcp_get(d, "simulated")))
      tmcp_deny("simulated", "a simulated TEE proves nothing", tmcp_get(d, "simulated"));
    if (tmcp_bool(tmcp_get(d, "debug")))
      tmcp_deny("debug", "the TEE can be read from outside", tmcp_get(d, "debug"));

    tmcp_value tcb = tmcp_get(d, "tcb");
    if (!tmcp_is_null(tcb) && !tmcp_is(tmcp_get(tcb, "status"), "UpToDate"))
      tmcp_deny("tcb", "the firmware is not up to date", tmcp_get(tcb, "status"));

    if (tmcp_is(tmcp_get(d, "kind"), "nvidia-gpu")) continue;
    cpus++;
    tmcp_value references = tmcp_get(d, "references");
    if (tmcp_is_null(references) || !tmcp_bool(tmcp_get(references, "matched")))
      tmcp_deny("reference-values", "the code is not known", references);
  }
  if (cpus == 0) tmcp_deny("no-tee", "no CPU TEE is attested", devices);
  tmcp_affirm_all(TMCP_AFFIRMING);
  tmcp_allow();
}

/* Who may call a tool stands in the settings:
 *   {"tools": {"read_file": "attested", "search": "identity", "time": "anyone"}} */
static void authorize(tmcp_value doc) {
  tmcp_value call = tmcp_get(doc, "call"), method = tmcp_get(call, "method");
  if (tmcp_is_null(method) || !tmcp_is(method, "tools/call")) {
    tmcp_allow();
    return;
  }
  tmcp_value name = tmcp_get(call, "name"), profile = tmcp_get(tmcp_get(doc, "peer"), "profile");
  tmcp_value tools = tmcp_find(tmcp_get(doc, "settings"), "tools");
  tmcp_value demand = tmcp_find_str(tools, tmcp_text(name));
  if (tmcp_is_null(demand)) {
    tmcp_deny("tool-not-listed", "the settings do not list this tool", name);
  } else if (tmcp_is(demand, "attested")) {
    if (!tmcp_is(profile, "attested")) tmcp_deny("not-attested", "this tool is for attested peers", profile);
  } else if (tmcp_is(demand, "identity")) {
    if (tmcp_is(profile, "none")) tmcp_deny("not-identified", "this tool is for known peers", profile);
  } else if (!tmcp_is(demand, "anyone")) {
    tmcp_deny("settings", "the demand is none of attested, identity and anyone", tools);
  }
  tmcp_allow();
}

TMCP_APPRAISE(appraise)
TMCP_AUTHORIZE(authorize)
