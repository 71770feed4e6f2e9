package tests

import "testing"

// TestInjector runs every test against one control plane and one injector.
func TestInjector(t *testing.T) {
	e := setUp(t)
	t.Run("Serving", func(t *testing.T) {
		parallel(t, e, map[string]func(*testing.T, *environment){
			"Kinds":              testKinds,
			"CronJob":            testCronJob,
			"GenerateName":       testGenerateName,
			"OptOut":             testOptOut,
			"OptOutAsAnnotation": testOptOutAsAnnotation,
			"Conflicts":          testConflicts,
			"Profiles":           testProfiles,
			"NativeTracer":       testNativeTracer,
			"CAMissing":          testCAMissing,
			"DryRun":             testDryRun,
			"LabelledLater":      testLabelledLater,
			"FreshNamespaces":    testFreshNamespaces,
		})
	})
	// These change what all share, so each runs alone.
	t.Run("NamespaceSeenLate", func(t *testing.T) { testNamespaceSeenLate(t, e) })
	t.Run("NamespaceNotSeen", func(t *testing.T) { testNamespaceNotSeen(t, e) })
	t.Run("CopiesAwaited", func(t *testing.T) { testCopiesAwaited(t, e) })
	t.Run("ConfigurationChanged", func(t *testing.T) { testConfigurationChanged(t, e) })
	t.Run("ConfigurationRefused", func(t *testing.T) { testConfigurationRefused(t, e) })
	t.Run("Killed", func(t *testing.T) { testKilled(t, e) })
	t.Run("Stopped", func(t *testing.T) { testStopped(t, e) })
	t.Run("TokenStaysWhereItBelongs", func(t *testing.T) { testTokenStaysWhereItBelongs(t, e) })
}

// parallel runs tests side by side, and returns when all have ended.
func parallel(t *testing.T, e *environment, tests map[string]func(*testing.T, *environment)) {
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, e)
		})
	}
}
