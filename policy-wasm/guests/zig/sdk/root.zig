//! The module's side of the ABI: exports the functions appraise and authorize of
//! the policy. What goes wrong in one, such as an overflow, traps, and the host
//! denies.
const std = @import("std");
const builtin = @import("builtin");
const policy = @import("policy");
const tmcp = @import("tmcp");

pub const panic = std.debug.no_panic;

comptime {
    if (builtin.target.cpu.arch.isWasm()) {
        @export(&version, .{ .name = "tmcp_abi_version" });
        @export(&allocate, .{ .name = "tmcp_allocate" });
        if (@hasDecl(policy, "appraise")) @export(&appraise, .{ .name = "tmcp_appraise" });
        if (@hasDecl(policy, "authorize")) @export(&authorize, .{ .name = "tmcp_authorize" });
    }
}

fn version() callconv(.c) u32 {
    return 1;
}

extern const __heap_base: u8;

/// Makes room for the input behind all data. An instance is asked once.
fn allocate(size: u32) callconv(.c) u32 {
    if (size > 16 << 20) return 0;
    const at: u32 = @intFromPtr(&__heap_base);
    const need = (at + size + 65535) >> 16;
    const have: u32 = @wasmMemorySize(0);
    if (need > have and @wasmMemoryGrow(0, need - have) < 0) return 0;
    return at;
}

fn appraise(at: u32, size: u32) callconv(.c) u64 {
    return run(at, size, true, policy.appraise);
}

fn authorize(at: u32, size: u32) callconv(.c) u64 {
    return run(at, size, false, policy.authorize);
}

var output: [40 << 10]u8 = undefined;

fn run(at: u32, size: u32, appraises: bool, comptime rules: tmcp.Rules) u64 {
    const input = @as([*]const u8, @ptrFromInt(at))[0..size];
    const result = tmcp.evaluate(input, appraises, rules, &output);
    if (result.len == 0) return 0;
    return @as(u64, @intFromPtr(result.ptr)) << 32 | result.len;
}
