# NAME: firmware may be out of date for some days, that the settings say.
package tmcp

import data.tmcp.sdk

# METADATA
# entrypoint: true
appraise := sdk.conclude(settings_faults, settings_denials, [], {}) if {
	count(array.concat(settings_faults, settings_denials)) > 0
} else := sdk.conclude(faults, denials, notes, more)

settings_faults := array.concat(
	sdk.need(input, "", "settings", ["object", "null"]),
	sdk.find(sdk.get(input, "settings"), "/settings", "days", ["number", "null"]),
)

settings_denials := [sdk.reason("settings", "days are 0 to 3650", "/settings/days") | outside]

days := n if {
	n := sdk.get(sdk.get(input, "settings"), "days")
	not is_null(n)
} else := 30

outside if days < 0

outside if days > 3650

faults := array.concat(
	array.concat(
		sdk.need(input, "", "time", ["number"]),
		sdk.need(input, "", "devices", ["array"]),
	),
	sdk.all([device_faults(d, sdk.entry("/devices", i)) | some i, d in input.devices]),
)

denials := array.concat(
	sdk.all([device_denials(d, sdk.entry("/devices", i)) | some i, d in input.devices]),
	[sdk.reason("no-tee", "no CPU TEE is attested", "/devices") | not has_cpu],
)

has_cpu if {
	some d in input.devices
	d.kind != "nvidia-gpu"
}

notes := [sdk.reason("tcb-grace", "out of date, within the days of grace", concat("", [sdk.entry("/devices", i), "/tcb/out_of_date_since"])) |
	some i, d in input.devices
	late(d)
	input.time < since(d) + (days * 86400)
]

more := {"vector": sdk.affirm_all(2)} if {
	count(notes) == 0
} else := {
	"vector": object.union(sdk.affirm_all(2), {"hardware": 32}),
	"obligations": [{"id": "valid-for", "value": 3600}],
}

device_faults(d, at) := sdk.all([
	sdk.need(d, at, "proven", ["boolean"]),
	sdk.need(d, at, "simulated", ["boolean"]),
	sdk.need(d, at, "debug", ["boolean"]),
	sdk.need(d, at, "kind", ["string"]),
	sdk.need(d, at, "tcb", ["object", "null"]),
	sdk.all([sdk.need(d.tcb, sdk.place(at, "tcb"), "status", ["string"]) | not is_null(d.tcb)]),
	sdk.all([sdk.need(d.tcb, sdk.place(at, "tcb"), "out_of_date_since", ["number", "null"]) | late(d)]),
	sdk.all([sdk.need(d.tcb, sdk.place(at, "tcb"), "date", ["number", "null"]) | late(d); is_null(d.tcb.out_of_date_since)]),
])

device_denials(d, at) := sdk.all([
	[sdk.reason("not-proven", "the evidence is not proven", sdk.place(at, "proven")) | not d.proven],
	[sdk.reason("simulated", "a simulated TEE proves nothing", sdk.place(at, "simulated")) | d.proven; d.simulated],
	[sdk.reason("debug", "the TEE can be read from outside", sdk.place(at, "debug")) | d.debug],
	[sdk.reason("tcb", "nothing is known of the firmware", sdk.place(at, "tcb")) | not is_object(d.tcb); not d.kind in {"nitro", "nvidia-gpu", "cca"}],
	[sdk.reason("tcb", "nothing says since when", sdk.place(at, "tcb")) | late(d); is_null(since(d))],
	[sdk.reason("tcb-grace", "the days of grace are over", concat("", [at, "/tcb/out_of_date_since"])) | late(d); not is_null(since(d)); input.time >= since(d) + (days * 86400)],
	[sdk.reason("tcb", "the firmware's status is not acceptable", concat("", [at, "/tcb/status"])) | is_object(d.tcb); d.tcb.status != "UpToDate"; not late(d)],
])

late(d) if d.tcb.status in {"OutOfDate", "OutOfDateConfigurationNeeded"}

since(d) := d.tcb.out_of_date_since if not is_null(d.tcb.out_of_date_since)

else := d.tcb.date
