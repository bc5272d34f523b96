package dispatch

// Probe is the probe that is the default.
var Probe = httpProbe
