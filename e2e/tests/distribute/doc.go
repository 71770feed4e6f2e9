// Package distribute holds the injector to what it promises of the Secrets that it copies: with the rights that the chart
// gives it, against a real API server whose audit log tells what it asked for.
//
//   - machine_test.go: sequences at random of all that may befall a Secret, and what holds after each (a failure names its
//     seed; -seed and -steps repeat it);
//   - states_test.go: what each state looks like to a user: Events, metrics, faults of a source, a tenant;
//   - writers_test.go: two leaders at once, and somebody who creates Secrets of the same names at the same moment;
//   - upgrade_test.go: beside the copies that an earlier version has made;
//   - scale_test.go: many namespaces (-namespaces), beside a bare client.
package distribute
