//! Calls the functions of the SDK as the settings say: see guesttest/probe.go.
const std = @import("std");
const tmcp = @import("tmcp");

pub const appraise = probe;
pub const authorize = probe;

const Op = enum { null, len, bool, @"bool-or", int, @"int-or", text, @"text-or", deny, note, affirm, @"affirm-all", @"oblige-int", @"oblige-bool", @"oblige-text", allow, abstain };

fn probe(doc: tmcp.Value, p: *tmcp.Policy) void {
    const ops = doc.get("settings").get("ops");
    for (0..ops.len()) |i| {
        const op = ops.at(i);
        const path = op.get("path");
        var v = doc;
        for (0..path.len()) |j| {
            const step = path.at(j);
            const get = step.find("get");
            const find = step.find("find");
            v = if (!get.isNull()) v.get(get.text()) else if (!find.isNull()) v.find(find.text()) else v.at(@intCast(step.get("at").int()));
        }
        const code = op.find("code").textOr("");
        const text = op.find("text").textOr("");
        const n = op.find("n").intOr(0);
        const same = switch (std.meta.stringToEnum(Op, op.get("do").text()) orelse continue) {
            .null => v.isNull(),
            .len => v.len() == n,
            .bool => v.boolean() == (n == 1),
            .@"bool-or" => v.booleanOr(true) == (n == 1),
            .int => v.int() == n,
            .@"int-or" => v.intOr(-7) == n,
            .text => v.is(text),
            .@"text-or" => std.mem.eql(u8, v.textOr("none"), text),
            else => |other| same: {
                switch (other) {
                    .deny => p.deny(code, text, v),
                    .note => p.note(code, text, v),
                    .affirm => p.affirm(.@"runtime-opaque", @intCast(n)),
                    .@"affirm-all" => p.affirmAll(@intCast(n)),
                    .@"oblige-int" => p.oblige(code, .{ .int = n }),
                    .@"oblige-bool" => p.oblige(code, .{ .boolean = n == 1 }),
                    .@"oblige-text" => p.oblige(code, .{ .text = text }),
                    .allow => p.allow(),
                    .abstain => p.abstain(),
                    else => unreachable,
                }
                break :same false;
            },
        };
        if (same) p.note("same", "", v);
    }
}
