// Package conformance is the suite behind tmcp-conform: it tries an MCP
// implementation, case by case, and says which sentence of which specification
// it keeps or breaks.
//
// Call [Run] with a [Config] (the target, and the cases of package catalog);
// print the [Report] with package report. A case is a [Case] whose Run method
// gets a [T]: it sends with [T.Session], and ends by returning (pass) or with
// [T.Violate], [T.NotApplicable] or [T.Untestable].
//
// The engine, not the case, decides what a negative case has shown. See
// [Case.Twin].
package conformance
