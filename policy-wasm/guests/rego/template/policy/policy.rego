# NAME: every TEE of the peer must be proven, closed, up to date and known; and
# the settings say who may call which tool.
package tmcp

import data.tmcp.sdk

# May this peer be trusted? The value is the result.
#
# METADATA
# entrypoint: true
appraise := sdk.conclude(
	array.concat(
		sdk.need(input, "", "devices", ["array"]),
		sdk.all([device_faults(d, sdk.entry("/devices", i)) | some i, d in input.devices]),
	),
	array.concat(
		sdk.all([device_denials(d, sdk.entry("/devices", i)) | some i, d in input.devices]),
		[sdk.reason("no-tee", "no CPU TEE is attested", "/devices") | not has_cpu],
	),
	[],
	{"vector": sdk.affirm_all(2)},
)

# What must stand in a device, because the rules below read it.
device_faults(d, at) := sdk.all([
	sdk.need(d, at, "proven", ["boolean"]),
	sdk.need(d, at, "simulated", ["boolean"]),
	sdk.need(d, at, "debug", ["boolean"]),
	sdk.need(d, at, "tcb", ["object", "null"]),
	sdk.all([sdk.need(d.tcb, sdk.place(at, "tcb"), "status", ["string"]) | not is_null(d.tcb)]),
	sdk.need(d, at, "kind", ["string"]),
	sdk.all([sdk.need(d, at, "references", ["object", "null"]) | is_cpu(d)]),
	sdk.all([sdk.need(d.references, sdk.place(at, "references"), "matched", ["boolean"]) | is_cpu(d); not is_null(d.references)]),
])

device_denials(d, at) := sdk.all([
	[sdk.reason("not-proven", "the evidence is not proven", sdk.place(at, "proven")) | not d.proven],
	[sdk.reason("simulated", "a simulated TEE proves nothing", sdk.place(at, "simulated")) | d.proven; d.simulated],
	[sdk.reason("debug", "the TEE can be read from outside", sdk.place(at, "debug")) | d.debug],
	[sdk.reason("tcb", "the firmware is not up to date", concat("", [at, "/tcb/status"])) | is_object(d.tcb); d.tcb.status != "UpToDate"],
	[sdk.reason("reference-values", "the code is not known", sdk.place(at, "references")) | is_cpu(d); not d.references.matched],
])

is_cpu(d) if d.kind != "nvidia-gpu"

has_cpu if {
	some d in input.devices
	is_cpu(d)
}

# May it make this call?
#
# METADATA
# entrypoint: true
authorize := sdk.conclude(
	array.concat(
		sdk.need(input, "", "call", ["object"]),
		array.concat(
			sdk.need(sdk.get(input, "call"), "/call", "method", ["string", "null"]),
			sdk.all([call_faults | input.call.method == "tools/call"]),
		),
	),
	[r | input.call.method == "tools/call"; some r in call_denials],
	[],
	{},
)

call_faults := sdk.all([
	sdk.need(input.call, "/call", "name", ["string"]),
	sdk.need(input, "", "peer", ["object"]),
	sdk.need(sdk.get(input, "peer"), "/peer", "profile", ["string", "null", "boolean", "number", "array", "object"]),
	sdk.need(input, "", "settings", ["object", "null"]),
	sdk.find(sdk.get(input, "settings"), "/settings", "tools", ["object", "null"]),
	sdk.all([sdk.find(tools, "/settings/tools", input.call.name, ["string", "null"]) | is_string(input.call.name)]),
	sdk.all([sdk.need(sdk.get(input, "peer"), "/peer", "profile", ["string"]) | demand in {"attested", "identity"}]),
])

tools := sdk.get(sdk.get(input, "settings"), "tools")

demand := sdk.get(tools, input.call.name)

call_denials := sdk.all([
	[sdk.reason("tool-not-listed", "the settings do not list this tool", "/call/name") | is_null(demand)],
	[sdk.reason("not-attested", "this tool is for attested peers", "/peer/profile") | demand == "attested"; input.peer.profile != "attested"],
	[sdk.reason("not-identified", "this tool is for known peers", "/peer/profile") | demand == "identity"; input.peer.profile == "none"],
	[sdk.reason("settings", "the demand is none of attested, identity and anyone", "/settings/tools") | is_string(demand); not demand in {"attested", "identity", "anyone"}],
])
