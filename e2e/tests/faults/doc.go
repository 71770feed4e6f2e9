// Package faults brings about what docs/faults.md has a row for, one after the other, while pods are created through a real API
// server that calls the injector under its own account. The page says what becomes of the pods, and what readiness, metrics and
// log say; each row is held to that, and the test to the rows.
package faults
