//! NAME: whom to trust, and what it may do.
const tmcp = @import("tmcp");

/// A peer is trusted when each of its TEEs is proven, real and closed, runs
/// firmware without known holes, and runs code that we know.
pub fn appraise(doc: tmcp.Value, p: *tmcp.Policy) void {
    const devices = doc.get("devices");
    var cpus: usize = 0;
    for (0..devices.len()) |i| {
        const d = devices.at(i);
        if (!d.get("proven").boolean()) {
            p.deny("not-proven", "the evidence is not proven", d.get("proven"));
        } else if (d.get("simulated").boolean()) {
            p.deny("simulated", "a simulated TEE proves nothing", d.get("simulated"));
        }
        if (d.get("debug").boolean())
            p.deny("debug", "the TEE can be read from outside", d.get("debug"));

        const tcb = d.get("tcb");
        if (!tcb.isNull() and !tcb.get("status").is("UpToDate"))
            p.deny("tcb", "the firmware is not up to date", tcb.get("status"));

        if (d.get("kind").is("nvidia-gpu")) continue;
        cpus += 1;
        const references = d.get("references");
        if (references.isNull() or !references.get("matched").boolean())
            p.deny("reference-values", "the code is not known", references);
    }
    if (cpus == 0) p.deny("no-tee", "no CPU TEE is attested", devices);
    p.affirmAll(tmcp.affirming);
    p.allow();
}

/// Who may call a tool stands in the settings:
///   {"tools": {"read_file": "attested", "search": "identity", "time": "anyone"}}
pub fn authorize(doc: tmcp.Value, p: *tmcp.Policy) void {
    const call = doc.get("call");
    const method = call.get("method");
    if (method.isNull() or !method.is("tools/call")) return p.allow();

    const name = call.get("name");
    const profile = doc.get("peer").get("profile");
    const tools = doc.get("settings").find("tools");
    const demand = tools.find(name.text());
    if (demand.isNull()) {
        p.deny("tool-not-listed", "the settings do not list this tool", name);
    } else if (demand.is("attested")) {
        if (!profile.is("attested")) p.deny("not-attested", "this tool is for attested peers", profile);
    } else if (demand.is("identity")) {
        if (profile.is("none")) p.deny("not-identified", "this tool is for known peers", profile);
    } else if (!demand.is("anyone")) {
        p.deny("settings", "the demand is none of attested, identity and anyone", tools);
    }
    p.allow();
}
