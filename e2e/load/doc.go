// Package load creates pods all the time, most of them in namespaces that have just been made, and counts what became of
// each. Whether a pod was created, and injected, the API server's own list says; how often the webhook was called, and how often
// in vain, its own metrics do.
package load
