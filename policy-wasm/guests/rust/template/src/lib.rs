//! NAME: whom to trust, and what it may do.
#![cfg_attr(not(test), no_std)]

use tmcp_policy::{Policy, Value, AFFIRMING};

tmcp_policy::appraise!(appraise);
tmcp_policy::authorize!(authorize);

/// A peer is trusted when each of its TEEs is proven, real and closed, runs
/// firmware without known holes, and runs code that we know.
pub fn appraise<'a>(doc: Value<'a>, p: &mut Policy<'a>) {
    let devices = doc.get("devices");
    let mut cpus = 0;
    for d in devices.elements() {
        if !d.get("proven").bool() {
            p.deny("not-proven", "the evidence is not proven", d.get("proven"));
        } else if d.get("simulated").bool() {
            p.deny("simulated", "a simulated TEE proves nothing", d.get("simulated"));
        }
        if d.get("debug").bool() {
            p.deny("debug", "the TEE can be read from outside", d.get("debug"));
        }

        let tcb = d.get("tcb");
        if !tcb.is_null() && tcb.get("status").text() != "UpToDate" {
            p.deny("tcb", "the firmware is not up to date", tcb.get("status"));
        }

        if d.get("kind").text() == "nvidia-gpu" {
            continue;
        }
        cpus += 1;
        let references = d.get("references");
        if references.is_null() || !references.get("matched").bool() {
            p.deny("reference-values", "the code is not known", references);
        }
    }
    if cpus == 0 {
        p.deny("no-tee", "no CPU TEE is attested", devices);
    }
    p.affirm_all(AFFIRMING);
    p.allow();
}

/// Who may call a tool stands in the settings:
/// `{"tools": {"read_file": "attested", "search": "identity", "time": "anyone"}}`
pub fn authorize<'a>(doc: Value<'a>, p: &mut Policy<'a>) {
    let call = doc.get("call");
    let method = call.get("method");
    if method.is_null() || method.text() != "tools/call" {
        return p.allow();
    }
    let (name, profile) = (call.get("name"), doc.get("peer").get("profile"));
    let tools = doc.get("settings").find("tools");
    let demand = tools.find(name.text());
    if demand.is_null() {
        p.deny("tool-not-listed", "the settings do not list this tool", name);
        return;
    }
    match demand.text() {
        "attested" if profile.text() != "attested" => {
            p.deny("not-attested", "this tool is for attested peers", profile)
        }
        "identity" if profile.text() == "none" => {
            p.deny("not-identified", "this tool is for known peers", profile)
        }
        "attested" | "identity" | "anyone" => {}
        _ => p.deny("settings", "the demand is none of attested, identity and anyone", tools),
    }
    p.allow();
}
