//! NAME: firmware may be out of date for some days.
//!
//! Settings: `{"days": 0 to 3650}`; without them 30.
#![cfg_attr(not(test), no_std)]

use tmcp_policy::{Claim, Policy, Value, AFFIRMING, WARNING};

tmcp_policy::appraise!(appraise);

/// May this peer be trusted?
pub fn appraise<'a>(doc: Value<'a>, p: &mut Policy<'a>) {
    let setting = doc.get("settings").find("days");
    let days = setting.int_or(30);
    if !(0..=3650).contains(&days) {
        return p.deny("settings", "days are 0 to 3650", setting);
    }
    let now = doc.get("time").int();
    let devices = doc.get("devices");
    let (mut cpus, mut late) = (0, false);
    for d in devices.elements() {
        if !d.get("proven").bool() {
            p.deny("not-proven", "the evidence is not proven", d.get("proven"));
        } else if d.get("simulated").bool() {
            p.deny("simulated", "a simulated TEE proves nothing", d.get("simulated"));
        }
        if d.get("debug").bool() {
            p.deny("debug", "the TEE can be read from outside", d.get("debug"));
        }

        let kind = d.get("kind").text();
        if kind != "nvidia-gpu" {
            cpus += 1;
        }

        let tcb = d.get("tcb");
        if tcb.is_null() {
            if !matches!(kind, "nitro" | "nvidia-gpu" | "cca") {
                p.deny("tcb", "nothing is known of the firmware", tcb);
            }
            continue;
        }
        let status = tcb.get("status");
        match status.text() {
            "UpToDate" => continue,
            "OutOfDate" | "OutOfDateConfigurationNeeded" => {}
            _ => {
                p.deny("tcb", "the firmware's status is not acceptable", status);
                continue;
            }
        }
        let since = tcb.get("out_of_date_since");
        let from = if since.is_null() { tcb.get("date") } else { since };
        if from.is_null() {
            p.deny("tcb", "nothing says since when", tcb);
        } else if now >= from.int() + days * 86400 {
            p.deny("tcb-grace", "the days of grace are over", since);
        } else {
            p.note("tcb-grace", "out of date, within the days of grace", since);
            late = true;
        }
    }
    if cpus == 0 {
        p.deny("no-tee", "no CPU TEE is attested", devices);
    }
    p.affirm_all(AFFIRMING);
    if late {
        p.affirm(Claim::Hardware, WARNING);
        p.oblige("valid-for", 3600);
    }
    p.allow();
}
