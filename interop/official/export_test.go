package official

// Read reads the reports of one run.
var Read = read
