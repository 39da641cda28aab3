//! NAME: firmware may be out of date for some days.
//!
//! Settings: {"days": 0 to 3650}; without them 30.
const tmcp = @import("tmcp");

pub fn appraise(doc: tmcp.Value, p: *tmcp.Policy) void {
    const setting = doc.get("settings").find("days");
    const days = setting.intOr(30);
    if (days < 0 or days > 3650) return p.deny("settings", "days are 0 to 3650", setting);
    const now = doc.get("time").int();
    const devices = doc.get("devices");
    var cpus: usize = 0;
    var late = false;
    for (0..devices.len()) |i| {
        const d = devices.at(i);
        if (!d.get("proven").boolean()) {
            p.deny("not-proven", "the evidence is not proven", d.get("proven"));
        } else if (d.get("simulated").boolean()) {
            p.deny("simulated", "a simulated TEE proves nothing", d.get("simulated"));
        }
        if (d.get("debug").boolean())
            p.deny("debug", "the TEE can be read from outside", d.get("debug"));

        const kind = d.get("kind");
        if (!kind.is("nvidia-gpu")) cpus += 1;

        const tcb = d.get("tcb");
        if (tcb.isNull()) {
            if (!kind.is("nitro") and !kind.is("nvidia-gpu") and !kind.is("cca"))
                p.deny("tcb", "nothing is known of the firmware", tcb);
            continue;
        }
        const status = tcb.get("status");
        if (status.is("UpToDate")) continue;
        if (!status.is("OutOfDate") and !status.is("OutOfDateConfigurationNeeded")) {
            p.deny("tcb", "the firmware's status is not acceptable", status);
            continue;
        }
        const since = tcb.get("out_of_date_since");
        const from = if (since.isNull()) tcb.get("date") else since;
        if (from.isNull()) {
            p.deny("tcb", "nothing says since when", tcb);
        } else if (now >= from.int() + days * 86400) {
            p.deny("tcb-grace", "the days of grace are over", since);
        } else {
            p.note("tcb-grace", "out of date, within the days of grace", since);
            late = true;
        }
    }
    if (cpus == 0) p.deny("no-tee", "no CPU TEE is attested", devices);
    p.affirmAll(tmcp.affirming);
    if (late) {
        p.affirm(.hardware, tmcp.warning);
        p.oblige("valid-for", .{ .int = 3600 });
    }
    p.allow();
}
