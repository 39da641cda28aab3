/* NAME: firmware may be out of date for some days.
 *
 * Settings: {"days": 0 to 3650}; without them 30. */
#include "tmcp_policy.h"

static void appraise(tmcp_value doc) {
  tmcp_value setting = tmcp_find(tmcp_get(doc, "settings"), "days");
  int64_t days = tmcp_int_or(setting, 30);
  if (days < 0 || days > 3650) {
    tmcp_deny("settings", "days are 0 to 3650", setting);
    return;
  }
  int64_t now = tmcp_int(tmcp_get(doc, "time"));
  tmcp_value devices = tmcp_get(doc, "devices");
  uint32_t cpus = 0;
  bool late = false;
  for (uint32_t i = 0; i < tmcp_len(devices); i++) {
    tmcp_value d = tmcp_at(devices, i);
    if (!tmcp_bool(tmcp_get(d, "proven")))
      tmcp_deny("not-proven", "the evidence is not proven", tmcp_get(d, "proven"));
    else if (tmcp_bool(tmcp_get(d, "simulated")))
      tmcp_deny("simulated", "a simulated TEE proves nothing", tmcp_get(d, "simulated"));
    if (tmcp_bool(tmcp_get(d, "debug")))
      tmcp_deny("debug", "the TEE can be read from outside", tmcp_get(d, "debug"));

    tmcp_value kind = tmcp_get(d, "kind");
    if (!tmcp_is(kind, "nvidia-gpu")) cpus++;

    tmcp_value tcb = tmcp_get(d, "tcb");
    if (tmcp_is_null(tcb)) {
      if (!tmcp_is(kind, "nitro") && !tmcp_is(kind, "nvidia-gpu") && !tmcp_is(kind, "cca"))
        tmcp_deny("tcb", "nothing is known of the firmware", tcb);
      continue;
    }
    tmcp_value status = tmcp_get(tcb, "status");
    if (tmcp_is(status, "UpToDate")) continue;
    if (!tmcp_is(status, "OutOfDate") && !tmcp_is(status, "OutOfDateConfigurationNeeded")) {
      tmcp_deny("tcb", "the firmware's status is not acceptable", status);
      continue;
    }
    tmcp_value since = tmcp_get(tcb, "out_of_date_since");
    tmcp_value from = tmcp_is_null(since) ? tmcp_get(tcb, "date") : since;
    if (tmcp_is_null(from)) {
      tmcp_deny("tcb", "nothing says since when", tcb);
    } else if (now >= tmcp_int(from) + days * 86400) {
      tmcp_deny("tcb-grace", "the days of grace are over", since);
    } else {
      tmcp_note("tcb-grace", "out of date, within the days of grace", since);
      late = true;
    }
  }
  if (cpus == 0) tmcp_deny("no-tee", "no CPU TEE is attested", devices);
  tmcp_affirm_all(TMCP_AFFIRMING);
  if (late) {
    tmcp_affirm(TMCP_HARDWARE, TMCP_WARNING);
    tmcp_oblige_int("valid-for", 3600);
  }
  tmcp_allow();
}

TMCP_APPRAISE(appraise)
