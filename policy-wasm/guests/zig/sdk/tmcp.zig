//! Policies for Trusted MCP in Zig: no allocation.
//!
//!     const tmcp = @import("tmcp");
//!
//!     pub fn appraise(doc: tmcp.Value, p: *tmcp.Policy) void {
//!         const devices = doc.get("devices");
//!         for (0..devices.len()) |i| {
//!             const debug = devices.at(i).get("debug");
//!             if (debug.boolean()) p.deny("debug", "the TEE can be read from outside", debug);
//!         }
//!         p.affirmAll(tmcp.affirming);
//!         p.allow();
//!     }
//!
//! The whole input is checked before the policy runs, and read in place. It fails
//! closed: who reads a member that is missing, or that has another type, gets
//! null, false, 0, "" or length 0, and whatever the policy says then, the result
//! is a denial that names this member. Only find, isNull and the functions that
//! end in Or ask without that.
const std = @import("std");

/// What a policy is: a function of the document that says its answer.
pub const Rules = fn (doc: Value, p: *Policy) void;

/// Values of AR4SI claims, one of each tier.
pub const unknown: i8 = 0;
pub const affirming: i8 = 2;
pub const warning: i8 = 32;
pub const contraindicated: i8 = 96;

/// AR4SI claims, in the order of their encodings.
pub const Claim = enum {
    hardware,
    executables,
    @"file-system",
    @"sourced-data",
    configuration,
    @"runtime-opaque",
    @"storage-opaque",
    @"instance-identity",
};

const Kind = enum(u3) { uint, negative, bytes, text, array, map, tag, simple };
const false_byte = 0xf4;
const true_byte = 0xf5;
const null_byte = 0xf6;

/// Answers a question about a document, as the module's entry points do: for tests
/// on the machine itself. out needs room for 40 KiB; returned is the part that
/// holds the result, in deterministic CBOR.
pub fn evaluate(input: []const u8, appraises: bool, comptime rules: Rules, out: []u8) []const u8 {
    var p = Policy{ .input = input };
    if (isDocument(input)) {
        rules(.{ .policy = &p, .place = .{ .at = 0 } }, &p);
    } else {
        p.fail("input-malformed", "the input is not deterministic CBOR of a document", .nowhere);
    }
    return p.finish(appraises, out);
}

const Head = struct { kind: Kind, n: u64, end: usize };

/// The head of an item, if it is spelled in as few bytes as it can be.
fn headOf(b: []const u8, at: usize) ?Head {
    if (at >= b.len) return null;
    const kind: Kind = @enumFromInt(b[at] >> 5);
    const info = b[at] & 31;
    if (info < 24) return .{ .kind = kind, .n = info, .end = at + 1 };
    if (info > 27 or kind == .simple) return null;
    const size = @as(usize, 1) << @intCast(info - 24);
    if (b.len - at - 1 < size) return null;
    var n: u64 = 0;
    for (b[at + 1 ..][0..size]) |c| n = n << 8 | c;
    const least: u64 = if (size == 1) 24 else @as(u64, 1) << @intCast(size * 4);
    if (n < least) return null;
    return .{ .kind = kind, .n = n, .end = at + 1 + size };
}

/// Keys are ordered as their encodings are: the shorter first.
fn less(a: []const u8, b: []const u8) bool {
    if (a.len != b.len) return a.len < b.len;
    return std.mem.lessThan(u8, a, b);
}

const levels = 32;

/// Reports whether b is one document in deterministic CBOR.
fn isDocument(b: []const u8) bool {
    const Level = struct { left: u64, map: bool, key: ?[]const u8 };
    var stack: [levels]Level = undefined;
    var depth: usize = 0;
    var at: usize = 0;
    while (true) {
        const h = headOf(b, at) orelse return false;
        at = h.end;
        var key = false;
        if (depth > 0) {
            const level = &stack[depth - 1];
            key = level.map and level.left % 2 == 0;
            level.left -= 1;
        }
        if (key and h.kind != .text) return false;
        switch (h.kind) {
            .uint => if (h.n >= 1 << 53) return false,
            .negative => if (h.n >= (1 << 53) - 1) return false,
            .text => {
                if (h.n > b.len - at) return false;
                const s = b[at..][0..@intCast(h.n)];
                if (!std.unicode.utf8ValidateSlice(s)) return false;
                at += s.len;
                if (key) {
                    const level = &stack[depth - 1];
                    if (level.key) |last| if (!less(last, s)) return false;
                    level.key = s;
                }
            },
            .array, .map => {
                if (h.n > b.len - at or depth == levels) return false;
                const map = h.kind == .map;
                stack[depth] = .{ .left = if (map) 2 * h.n else h.n, .map = map, .key = null };
                depth += 1;
            },
            .simple => if (h.n < 20 or h.n > 22) return false,
            .bytes, .tag => return false,
        }
        while (depth > 0 and stack[depth - 1].left == 0) depth -= 1;
        if (depth == 0) return at == b.len;
    }
}

/// Where a value stands, or would.
const Place = union(enum) {
    at: usize,
    member: struct { parent: usize, name: []const u8 },
    element: struct { parent: usize, index: usize },
    nowhere,
};

/// A value of the document: a view.
pub const Value = struct {
    policy: *Policy,
    place: Place,

    fn with(v: Value, place: Place) Value {
        return .{ .policy = v.policy, .place = place };
    }

    fn head(v: Value) ?Head {
        return switch (v.place) {
            .at => |here| v.policy.head(here),
            else => null,
        };
    }

    /// The head, if the value has that type.
    fn of(v: Value, kind: Kind) ?Head {
        const h = v.head() orelse return null;
        return if (h.kind == kind) h else null;
    }

    /// Notes that the value is not what the policy wanted to read.
    fn wrong(v: Value) void {
        switch (v.place) {
            .member, .element => v.policy.fail("claim-missing", "a member that the policy reads is missing", v.place),
            else => v.policy.fail("claim-type", "a member that the policy reads has another type", v.place),
        }
    }

    /// The member of that name, which must be there.
    pub fn get(v: Value, name: []const u8) Value {
        if (v.of(.map) == null) {
            v.wrong();
            return v.with(.nowhere);
        }
        const member = v.find(name);
        if (member.place == .at) return member;
        member.wrong();
        return v.with(.nowhere);
    }

    /// The member of that name, or null if there is none. Of null: null.
    pub fn find(v: Value, name: []const u8) Value {
        if (v.isNull()) return v;
        const h = v.of(.map) orelse {
            v.wrong();
            return v.with(.nowhere);
        };
        var here = h.end;
        for (0..@intCast(h.n)) |_| {
            const key = v.policy.textAt(here);
            if (std.mem.eql(u8, key.bytes, name)) return v.with(.{ .at = key.end });
            here = v.policy.after(key.end);
        }
        return v.with(.{ .member = .{ .parent = v.place.at, .name = name } });
    }

    /// The element with that index, which must be there.
    pub fn at(v: Value, index: usize) Value {
        const h = v.of(.array) orelse {
            v.wrong();
            return v.with(.nowhere);
        };
        if (index >= h.n) {
            v.with(.{ .element = .{ .parent = v.place.at, .index = index } }).wrong();
            return v.with(.nowhere);
        }
        var here = h.end;
        for (0..index) |_| here = v.policy.after(here);
        return v.with(.{ .at = here });
    }

    /// How many elements an array has, or members an object.
    pub fn len(v: Value) usize {
        const h = v.of(.array) orelse v.of(.map) orelse {
            v.wrong();
            return 0;
        };
        return @intCast(h.n);
    }

    /// It is null, or was not found.
    pub fn isNull(v: Value) bool {
        return switch (v.place) {
            .at => |here| v.policy.input[here] == null_byte,
            else => true,
        };
    }

    pub fn boolean(v: Value) bool {
        if (v.place == .at) switch (v.policy.input[v.place.at]) {
            true_byte => return true,
            false_byte => return false,
            else => {},
        };
        v.wrong();
        return false;
    }

    /// An integer, between -2^53 and 2^53.
    pub fn int(v: Value) i64 {
        if (v.of(.uint)) |h| return @intCast(h.n);
        if (v.of(.negative)) |h| return -1 - @as(i64, @intCast(h.n));
        v.wrong();
        return 0;
    }

    pub fn text(v: Value) []const u8 {
        if (v.of(.text) == null) {
            v.wrong();
            return "";
        }
        return v.policy.textAt(v.place.at).bytes;
    }

    /// It is this text.
    pub fn is(v: Value, s: []const u8) bool {
        return std.mem.eql(u8, v.text(), s);
    }

    pub fn booleanOr(v: Value, if_null: bool) bool {
        return if (v.isNull()) if_null else v.boolean();
    }

    pub fn intOr(v: Value, if_null: i64) i64 {
        return if (v.isNull()) if_null else v.int();
    }

    pub fn textOr(v: Value, if_null: []const u8) []const u8 {
        return if (v.isNull()) if_null else v.text();
    }
};

const Reason = struct { code: []const u8, text: []const u8, claim: Place };

/// The value of an obligation.
pub const Obligation = union(enum) { int: i64, boolean: bool, text: []const u8 };

const NamedObligation = struct { id: []const u8, value: Obligation };

/// What the policy says, from which its answer is made: a fault in reading the
/// document denies; else any deny; else allow allows; else abstain abstains. Who
/// said none of them denies. Texts must stay where they are.
pub const Policy = struct {
    input: []const u8,
    fault: ?Reason = null,
    denied: bool = false,
    allowed: bool = false,
    abstained: bool = false,
    reasons: [32]Reason = undefined,
    reason_count: usize = 0,
    vector: [std.enums.values(Claim).len]?i8 = @splat(null),
    obligations: [16]NamedObligation = undefined,
    obligation_count: usize = 0,

    /// Denies. The code has 1 to 64 characters of a-z, 0-9 and hyphen, the text is
    /// for people, and the claim is what was judged. The first 32 reasons stand.
    pub fn deny(p: *Policy, code: []const u8, text: []const u8, claim: Value) void {
        p.denied = true;
        p.note(code, text, claim);
    }

    /// Gives a reason that does not deny.
    pub fn note(p: *Policy, code: []const u8, text: []const u8, claim: Value) void {
        p.reason(.{ .code = code, .text = text, .claim = claim.place });
    }

    fn reason(p: *Policy, r: Reason) void {
        if (p.reason_count == p.reasons.len) return;
        p.reasons[p.reason_count] = r;
        p.reason_count += 1;
    }

    fn fail(p: *Policy, code: []const u8, text: []const u8, claim: Place) void {
        if (p.fault == null) p.fault = .{ .code = code, .text = text, .claim = claim };
    }

    /// Sets a claim of the vector. An answer to appraise that allows has all of
    /// them.
    pub fn affirm(p: *Policy, claim: Claim, value: i8) void {
        p.vector[@intFromEnum(claim)] = value;
    }

    /// Sets all claims of the vector.
    pub fn affirmAll(p: *Policy, value: i8) void {
        p.vector = @splat(value);
    }

    /// Allows under a condition. The same id again replaces the value; a 17th id
    /// denies.
    pub fn oblige(p: *Policy, id: []const u8, value: Obligation) void {
        for (p.obligations[0..p.obligation_count]) |*o| {
            if (std.mem.eql(u8, o.id, id)) {
                o.value = value;
                return;
            }
        }
        if (p.obligation_count == p.obligations.len)
            return p.fail("result-limit", "the result has more than 16 obligations", .nowhere);
        p.obligations[p.obligation_count] = .{ .id = id, .value = value };
        p.obligation_count += 1;
    }

    /// Allows, unless anything denied.
    pub fn allow(p: *Policy) void {
        p.allowed = true;
    }

    /// Says nothing, unless anything denied or allowed.
    pub fn abstain(p: *Policy) void {
        p.abstained = true;
    }

    // The input was checked when these are called.

    fn head(p: *const Policy, at: usize) Head {
        return headOf(p.input, at).?;
    }

    fn textAt(p: *const Policy, at: usize) struct { bytes: []const u8, end: usize } {
        const h = p.head(at);
        const n: usize = @intCast(h.n);
        return .{ .bytes = p.input[h.end..][0..n], .end = h.end + n };
    }

    /// Where the item at p ends.
    fn after(p: *const Policy, from: usize) usize {
        var at = from;
        var left: u64 = 1;
        while (left > 0) : (left -= 1) {
            const h = p.head(at);
            at = h.end;
            switch (h.kind) {
                .text => at += @intCast(h.n),
                .array => left += h.n,
                .map => left += 2 * h.n,
                else => {},
            }
        }
        return at;
    }

    /// Finds the way to a place from the root: views do not keep it.
    fn point(p: *const Policy, place: Place, to: *Pointer) void {
        const target = switch (place) {
            .at => |at| at,
            .member => |m| m.parent,
            .element => |e| e.parent,
            .nowhere => return,
        };
        var digits: [20]u8 = undefined;
        var at: usize = 0;
        while (at != target) {
            const h = p.head(at);
            at = h.end;
            for (0..@intCast(h.n)) |i| {
                var token = decimal(&digits, i);
                if (h.kind == .map) {
                    const name = p.textAt(at);
                    token = name.bytes;
                    at = name.end;
                }
                const next = p.after(at);
                if (target < next) {
                    to.token(token);
                    break;
                }
                at = next;
            }
        }
        switch (place) {
            .member => |m| to.token(m.name),
            .element => |e| to.token(decimal(&digits, e.index)),
            else => {},
        }
    }

    fn finish(p: *Policy, appraises: bool, out: []u8) []const u8 {
        var decision: []const u8 = "deny";
        if (p.fault) |f| {
            p.reasons[0] = f;
            p.reason_count = 1;
        } else if (p.denied) {} else if (p.allowed) {
            decision = "allow";
        } else if (p.abstained) {
            decision = "abstain";
        } else {
            p.reason(.{ .code = "no-decision", .text = "the policy did not decide", .claim = .nowhere });
        }
        if (p.fault != null or !appraises) p.vector = @splat(null);
        if (!std.mem.eql(u8, decision, "allow")) p.obligation_count = 0;
        var claims: usize = 0;
        for (p.vector) |v| claims += @intFromBool(v != null);
        const reasons = p.reasons[0..p.reason_count];
        const obligations = p.obligations[0..p.obligation_count];

        var w = Writer{ .out = out };
        w.head(.map, 1 + @as(u64, @intFromBool(claims > 0)) + @intFromBool(reasons.len > 0) + @intFromBool(obligations.len > 0));
        if (claims > 0) {
            w.text("vector");
            w.head(.map, claims);
            for (std.enums.values(Claim)) |claim| if (p.vector[@intFromEnum(claim)]) |v| {
                w.text(@tagName(claim));
                w.int(v);
            };
        }
        if (reasons.len > 0) {
            w.text("reasons");
            w.head(.array, reasons.len);
            for (reasons) |r| w.reason(p, r);
        }
        w.text("decision");
        w.text(decision);
        if (obligations.len > 0) {
            w.text("obligations");
            w.head(.array, obligations.len);
            for (obligations) |o| {
                w.head(.map, 2);
                w.text("id");
                w.text(o.id);
                w.text("value");
                switch (o.value) {
                    .int => |n| w.int(n),
                    .boolean => |b| w.byte(if (b) true_byte else false_byte),
                    .text => |s| w.text(s),
                }
            }
        }
        return if (w.full) out[0..0] else out[0..w.size];
    }
};

fn decimal(to: *[20]u8, n: usize) []const u8 {
    var at: usize = to.len;
    var left = n;
    while (true) {
        at -= 1;
        to[at] = '0' + @as(u8, @intCast(left % 10));
        left /= 10;
        if (left == 0) return to[at..];
    }
}

/// A JSON pointer. A token that does not fit ends it.
const Pointer = struct {
    bytes: [256]u8 = undefined,
    size: usize = 0,
    full: bool = false,

    fn token(to: *Pointer, s: []const u8) void {
        var size = 1 + s.len;
        for (s) |c| size += @intFromBool(c == '~' or c == '/');
        if (to.full or size > to.bytes.len - to.size) {
            to.full = true;
            return;
        }
        to.put('/');
        for (s) |c| switch (c) {
            '~' => {
                to.put('~');
                to.put('0');
            },
            '/' => {
                to.put('~');
                to.put('1');
            },
            else => to.put(c),
        };
    }

    fn put(to: *Pointer, c: u8) void {
        to.bytes[to.size] = c;
        to.size += 1;
    }
};

const Writer = struct {
    out: []u8,
    size: usize = 0,
    full: bool = false,

    fn byte(w: *Writer, b: u8) void {
        if (w.size == w.out.len) {
            w.full = true;
            return;
        }
        w.out[w.size] = b;
        w.size += 1;
    }

    fn head(w: *Writer, kind: Kind, n: u64) void {
        const first = @as(u8, @intFromEnum(kind)) << 5;
        if (n < 24) return w.byte(first | @as(u8, @intCast(n)));
        const info: u8 = if (n < 1 << 8) 0 else if (n < 1 << 16) 1 else if (n < 1 << 32) 2 else 3;
        w.byte(first | (24 + info));
        var left = @as(u8, 1) << @intCast(info);
        while (left > 0) : (left -= 1) w.byte(@truncate(n >> @intCast((left - 1) * 8)));
    }

    fn text(w: *Writer, s: []const u8) void {
        w.head(.text, s.len);
        for (s) |c| w.byte(c);
    }

    fn int(w: *Writer, n: i64) void {
        if (n < 0) w.head(.negative, @intCast(-1 - n)) else w.head(.uint, @intCast(n));
    }

    fn reason(w: *Writer, p: *const Policy, r: Reason) void {
        var pointer = Pointer{};
        p.point(r.claim, &pointer);
        var s = r.text;
        if (s.len > 256) {
            var end: usize = 256;
            while (end > 0 and s[end] & 0xc0 == 0x80) end -= 1;
            s = s[0..end];
        }
        w.head(.map, 1 + @as(u64, @intFromBool(s.len > 0)) + @intFromBool(pointer.size > 0));
        w.text("code");
        w.text(r.code);
        if (s.len > 0) {
            w.text("text");
            w.text(s);
        }
        if (pointer.size > 0) {
            w.text("claim");
            w.text(pointer.bytes[0..pointer.size]);
        }
    }
};
