// Package reliability has the figures of a run in which pods are created all the time, and writes them into the page that is
// about them: docs/reliability.md.
package reliability
