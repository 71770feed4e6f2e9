// Package status shows that no pod is missed unseen: those that are created while the webhook does not answer, or that have
// settings that are no longer in force, are named by the gauge and by `lightstep-injector status`, and what that says mends
// them does. The injector runs with the rights that the chart gives it.
package status
