package mesh

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
)

const (
	lease          = "lightstep-injector"
	leaseNamespace = "lightstep-system"
)

// TestMesh runs every test against one control plane and one injector, in this order: each says what it changes of what
// all share, which is how Istio is installed.
func TestMesh(t *testing.T) {
	e := setUp(t)
	t.Run("IstioComesLate", func(t *testing.T) { testIstioComesLate(t, e) })
	t.Run("Settings", func(t *testing.T) { testSettings(t, e) })
	t.Run("Foreign", func(t *testing.T) { testForeign(t, e) })
	t.Run("ForeignInBetween", func(t *testing.T) { testForeignInBetween(t, e) })
	t.Run("Deleted", func(t *testing.T) { testDeleted(t, e) })
	t.Run("Changed", func(t *testing.T) { testChanged(t, e) })
	t.Run("CopiedLabels", func(t *testing.T) { testCopiedLabels(t, e) })
	t.Run("LabelRemoved", func(t *testing.T) { testLabelRemoved(t, e) })
	t.Run("NamespaceDeleted", func(t *testing.T) { testNamespaceDeleted(t, e) })
	t.Run("Direct", func(t *testing.T) { testDirect(t, e) })
	t.Run("RuleChanged", func(t *testing.T) { testRuleChanged(t, e) })
	t.Run("ProviderMissing", func(t *testing.T) { testProviderMissing(t, e) })
	t.Run("NativeTracer", func(t *testing.T) { testNativeTracer(t, e) })
	t.Run("LeaseLost", func(t *testing.T) { testLeaseLost(t, e) })
	t.Run("Restarted", func(t *testing.T) { testRestarted(t, e) })
	t.Run("NoLongerManaged", func(t *testing.T) { testNoLongerManaged(t, e) })
	t.Run("NoToken", func(t *testing.T) { testNoToken(t, e) })
}

// Without Istio's kinds nothing can be kept: it is said once, and done when they are there.
func testIstioComesLate(t *testing.T, e *environment) {
	e.namespace(t, istioSpace, nil)
	e.install(t, "1.31.0", collectorMesh)
	e.namespace(t, "late", nil)
	e.namespace(t, marker, nil)
	e.Secret(t, marker, "lightstep.cacert", "cacert.pem", "x")
	stage.Eventually(t, func(context.Context) error {
		if !strings.Contains(e.log(t), "mesh: waiting") {
			return errors.New("it does not say that it waits")
		}
		return nil
	})
	e.installIstio(t)
	e.awaits(t, "late", telemetry)
	if said := strings.Count(e.log(t), "mesh: waiting"); said != 1 {
		t.Errorf("it says %d times that it waits", said)
	}
	object, err := e.get(t.Context(), telemetry, "late")
	stage.Check(t, err)
	spec, err := json.Marshal(object.Object["spec"])
	stage.Check(t, err)
	const want = `{"selector":{"matchLabels":{"lightstep.com/injected":"true"}},` +
		`"tracing":[{"customTags":{"team":{"literal":{"value":"shop"}}},"providers":[{"name":"lightstep"}],"randomSamplingPercentage":25}]}`
	if string(spec) != want {
		t.Errorf("the Telemetry is %s, wanted %s", spec, want)
	}
	if managers := object.GetManagedFields(); len(managers) != 1 || managers[0].Manager != "lightstep-injector" || managers[0].Operation != metav1.ManagedFieldsOperationApply {
		t.Errorf("the Telemetry's fields are managed by %v", managers)
	}
}

// The namespace's annotations count, as far as the configuration lets them, and so does the profile that it picks.
func testSettings(t *testing.T, e *environment) {
	e.namespace(t, "pay", map[string]string{"lightstep.com/profile": "pay", "lightstep.com/sampling": "7.5"})
	e.awaitField(t, telemetry, "pay", "[map[providers:[map[name:lightstep]] randomSamplingPercentage:7.5]]", "spec", "tracing")
	e.annotate(t, "pay", `{"lightstep.com/sampling":null,"lightstep.com/custom-tags":"a=b"}`)
	e.awaitField(t, telemetry, "pay", "[map[customTags:map[a:map[literal:map[value:b]]] providers:[map[name:lightstep]] randomSamplingPercentage:50]]", "spec", "tracing")
	e.annotate(t, "late", `{"lightstep.com/profile":"pay"}`)
	e.awaits(t, "late")
	e.awaitState(t, "ProfileInvalid", 1)
	e.annotate(t, "late", `{"lightstep.com/profile":null}`)
	e.awaits(t, "late", telemetry)
}

// What is not ours is never touched, and said once.
func testForeign(t *testing.T, e *environment) {
	made, err := e.client(telemetry, "default").Create(t.Context(), theirs(), metav1.CreateOptions{})
	stage.Check(t, err)
	e.label(t, "default", `{"lightstep.com/injection":"enabled","istio-injection":"enabled"}`)
	e.awaitState(t, "Foreign", 1)
	e.stays(t, "default", telemetry)
	now, err := e.get(t.Context(), telemetry, "default")
	stage.Check(t, err)
	before, _ := json.Marshal(made)
	after, _ := json.Marshal(now)
	if string(before) != string(after) {
		t.Errorf("it was touched:\n%s\n%s", before, after)
	}
	if !strings.Contains(e.log(t), "Telemetry default/lightstep: an object of that name exists") {
		t.Error("it is not said")
	}
	e.awaitEvent(t, "default", "ForeignObject", "is not the injector's")
	stage.Check(t, e.client(telemetry, "default").Delete(t.Context(), ours, metav1.DeleteOptions{}))
	e.awaitState(t, "Foreign", 0)
	e.awaits(t, "default", telemetry)
}

// theirs is somebody else's Telemetry of our name, with nothing in it that an apply of ours would clash with.
func theirs() *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "telemetry.istio.io/v1", "kind": "Telemetry", "metadata": map[string]any{"name": ours},
		"spec": map[string]any{"accessLogging": []any{map[string]any{"providers": []any{map[string]any{"name": "envoy"}}}}},
	}}
}

// What somebody else creates between the injector's look, which finds nothing, and its apply, which merges into it, is given
// back as it was. The answer to the look is held back, from when the injector knows of the namespace until somebody else has
// come; whether it was not yet given by then is seen afterwards.
func testForeignInBetween(t *testing.T, e *environment) {
	for try := range 20 {
		namespace := "between-" + strconv.Itoa(try)
		e.namespace(t, namespace, nil)
		stage.Eventually(t, func(ctx context.Context) error { return e.seen(ctx, namespace) })
		e.relay.Pause()
		looked := e.awaitLook(t, namespace)
		made, err := e.client(telemetry, namespace).Create(t.Context(), theirs(), metav1.CreateOptions{})
		e.relay.Resume()
		stage.Check(t, looked)
		if err != nil { // ours was there first
			stage.Check(t, e.Client.CoreV1().Namespaces().Delete(t.Context(), namespace, metav1.DeleteOptions{}))
			continue
		}
		stage.Eventually(t, func(context.Context) error {
			if !strings.Contains(e.log(t), "Telemetry "+namespace+"/lightstep: an object of that name exists") {
				return errors.New("it is not said")
			}
			return nil
		})
		now, err := e.get(t.Context(), telemetry, namespace)
		stage.Check(t, err)
		merged := now.GetResourceVersion() != made.GetResourceVersion()
		for _, object := range []*unstructured.Unstructured{made, now} {
			object.SetResourceVersion("")
			object.SetGeneration(0)
		}
		before, _ := json.Marshal(made)
		after, _ := json.Marshal(now)
		if string(before) != string(after) {
			t.Fatalf("something of ours is left:\n%s\n%s", before, after)
		}
		stage.Check(t, e.Client.CoreV1().Namespaces().Delete(t.Context(), namespace, metav1.DeleteOptions{}))
		if merged {
			return
		}
	}
	t.Error("no apply ever merged into somebody else's object: nothing is shown")
}

// What is deleted comes back.
func testDeleted(t *testing.T, e *environment) {
	stage.Check(t, e.client(telemetry, "late").Delete(t.Context(), ours, metav1.DeleteOptions{}))
	e.awaits(t, "late", telemetry)
}

// What somebody else has changed stays as they made it, also when the settings change.
func testChanged(t *testing.T, e *environment) {
	patch := `{"spec":{"tracing":[{"providers":[{"name":"lightstep"}],"randomSamplingPercentage":99}]}}`
	_, err := e.client(telemetry, "late").Patch(t.Context(), ours, types.MergePatchType, []byte(patch), metav1.PatchOptions{FieldManager: "kubectl-edit"})
	stage.Check(t, err)
	e.awaitState(t, "Conflict", 1)
	e.awaitEvent(t, "late", "ConflictObject", "another field manager has changed the object")
	e.annotate(t, "late", `{"lightstep.com/sampling":"3"}`)
	e.stays(t, "late", telemetry)
	e.awaitField(t, telemetry, "late", "[map[providers:[map[name:lightstep]] randomSamplingPercentage:99]]", "spec", "tracing")
	stage.Check(t, e.client(telemetry, "late").Delete(t.Context(), ours, metav1.DeleteOptions{}))
	e.awaitField(t, telemetry, "late", "[map[customTags:map[team:map[literal:map[value:shop]]] providers:[map[name:lightstep]] randomSamplingPercentage:3]]", "spec", "tracing")
}

// An object that has our labels, since it was copied with its manifest, is not ours, and outlives the label.
func testCopiedLabels(t *testing.T, e *environment) {
	copied, err := e.get(t.Context(), telemetry, "late")
	stage.Check(t, err)
	made := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "telemetry.istio.io/v1", "kind": "Telemetry", "spec": copied.Object["spec"],
	}}
	made.SetName("copied")
	made.SetLabels(copied.GetLabels())
	_, err = e.client(telemetry, "late").Create(t.Context(), made, metav1.CreateOptions{})
	stage.Check(t, err)
	testDeleted(t, e) // by then its watch has told of the copy
	e.stays(t, "late", telemetry)
	_, err = e.client(telemetry, "late").Get(t.Context(), "copied", metav1.GetOptions{})
	stage.Check(t, err)
}

func testLabelRemoved(t *testing.T, e *environment) {
	e.label(t, "late", `{"lightstep.com/injection":null}`)
	e.awaits(t, "late")
	_, err := e.client(telemetry, "late").Get(t.Context(), "copied", metav1.GetOptions{})
	stage.Check(t, err)
	e.label(t, "late", `{"lightstep.com/injection":"enabled"}`)
	e.awaits(t, "late", telemetry)
}

// A namespace that goes is left alone: nothing is created in it, and nothing is said to have failed.
func testNamespaceDeleted(t *testing.T, e *environment) {
	e.namespace(t, "going", nil)
	e.awaits(t, "going", telemetry)
	// A pod that a node still has keeps the namespace there for a while.
	hold := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "hold", Finalizers: []string{"example.com/hold"}}}
	_, err := e.Client.CoreV1().ConfigMaps("going").Create(t.Context(), hold, metav1.CreateOptions{})
	stage.Check(t, err)
	stage.Check(t, e.Client.CoreV1().Namespaces().Delete(t.Context(), "going", metav1.DeleteOptions{}))
	e.awaits(t, "going")
	e.stays(t, "going")
	_, err = e.Client.CoreV1().ConfigMaps("going").Patch(t.Context(), "hold", types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
	stage.Check(t, err)
	for line := range strings.Lines(e.log(t)) {
		if strings.Contains(line, "going") && strings.Contains(line, "failed") {
			t.Errorf("it says %s", line)
		}
	}
}

// Where MeshConfig's provider leads straight to the satellites, a namespace gets the way there, too, once it has the
// satellite CA.
func testDirect(t *testing.T, e *environment) {
	e.install(t, "1.31.0", directMesh)
	e.awaits(t, "late")
	e.awaitState(t, "CAMissing", 3) // default, late, pay, and neither the marker nor istio-system
	e.Secret(t, "late", "lightstep.cacert", "cacert.pem", "x")
	e.awaits(t, "late", serviceEntry, destinationRule, telemetry)
	e.awaitField(t, serviceEntry, "late", "[map[address:satellite.example.com ports:map[grpc-otlp:9292]]]", "spec", "endpoints")
	e.awaitField(t, serviceEntry, "late", "[.]", "spec", "exportTo")
	e.awaitField(t, destinationRule, "late", "map[caCertificates:/etc/lightstep/cacert.pem mode:SIMPLE sni:satellite.example.com subjectAltNames:[satellite.example.com]]", "spec", "trafficPolicy", "tls")
	e.Secret(t, "pay", "pay-ca", "cacert.pem", "x")
	e.awaits(t, "pay", serviceEntry, destinationRule, telemetry)
	e.awaitField(t, serviceEntry, "pay", "STATIC", "spec", "resolution")
	e.awaitField(t, destinationRule, "pay", "map[caCertificates:/etc/pay/cacert.pem mode:SIMPLE sni:pay.example.com subjectAltNames:[pay.example.com]]", "spec", "trafficPolicy", "tls")
	stage.Check(t, e.Client.CoreV1().Secrets("pay").Delete(t.Context(), "pay-ca", metav1.DeleteOptions{}))
	e.awaits(t, "pay")
}

// Without the TLS that the profile wants, no span is sent: the Telemetry goes, the changed rule stays as it is.
func testRuleChanged(t *testing.T, e *environment) {
	patch := `{"spec":{"trafficPolicy":{"tls":{"mode":"DISABLE"}}}}`
	_, err := e.client(destinationRule, "late").Patch(t.Context(), ours, types.MergePatchType, []byte(patch), metav1.PatchOptions{FieldManager: "kubectl-edit"})
	stage.Check(t, err)
	e.awaits(t, "late", serviceEntry, destinationRule)
	e.stays(t, "late", serviceEntry, destinationRule)
	e.awaitField(t, destinationRule, "late", "DISABLE", "spec", "trafficPolicy", "tls", "mode")
	stage.Check(t, e.client(destinationRule, "late").Delete(t.Context(), ours, metav1.DeleteOptions{}))
	e.awaits(t, "late", serviceEntry, destinationRule, telemetry)
}

// A Telemetry that names a provider that is not there would switch off whatever tracing there is.
func testProviderMissing(t *testing.T, e *environment) {
	e.install(t, "1.31.0", noProvider)
	e.awaits(t, "late")
	e.awaitState(t, "ProviderMissing", 4)
	e.install(t, "1.31.0", collectorMesh)
	e.awaits(t, "late", telemetry)
}

// An older Istio needs none of it; one that cannot be read changes nothing.
func testNativeTracer(t *testing.T, e *environment) {
	e.install(t, "latest", collectorMesh)
	e.awaitState(t, "Unknown", 4)
	stage.Check(t, e.has(t.Context(), "late", telemetry))
	e.install(t, "1.14.6", collectorMesh)
	e.awaits(t, "late")
	e.awaitState(t, "NotNeeded", 4)
	e.install(t, "1.31.0", collectorMesh)
	e.awaits(t, "late", telemetry)
}

// Whoever loses the lease stops, and stands again; the process goes on.
func testLeaseLost(t *testing.T, e *environment) {
	leases := e.Client.CoordinationV1().Leases(leaseNamespace)
	patch := []byte(`{"spec":{"holderIdentity":"somebody else","leaseDurationSeconds":3600,"renewTime":"` + time.Now().UTC().Format("2006-01-02T15:04:05.000000Z") + `"}}`)
	_, err := leases.Patch(t.Context(), lease, types.MergePatchType, patch, metav1.PatchOptions{})
	stage.Check(t, err)
	stage.Eventually(t, func(context.Context) error {
		if !strings.Contains(e.log(t), "mesh: no longer managing") {
			return errors.New("it still manages")
		}
		return nil
	})
	stage.Check(t, e.client(telemetry, "late").Delete(t.Context(), ours, metav1.DeleteOptions{}))
	e.rests(t, "late")
	stage.Check(t, e.injector.Ready(t.Context()))
	stage.Check(t, leases.Delete(t.Context(), lease, metav1.DeleteOptions{}))
	e.awaits(t, "late", telemetry)
}

// What changed while it was down is made good; and it hands back the lease, so that the next need not wait.
func testRestarted(t *testing.T, e *environment) {
	stage.Check(t, e.injector.Stop())
	held, err := e.Client.CoordinationV1().Leases(leaseNamespace).Get(t.Context(), lease, metav1.GetOptions{})
	stage.Check(t, err)
	if holder := held.Spec.HolderIdentity; holder != nil && *holder != "" {
		t.Errorf("the lease is still held by %s", *holder)
	}
	e.label(t, "late", `{"lightstep.com/injection":null}`)
	stage.Check(t, e.client(telemetry, "default").Delete(t.Context(), ours, metav1.DeleteOptions{}))
	stage.Check(t, e.injector.Start(t.Context()))
	e.awaits(t, "late")
	e.awaits(t, "default", telemetry)
	e.awaits(t, "pay", telemetry)
}

// With istio.manage: false nothing is done, nor undone; with true again, it is.
func testNoLongerManaged(t *testing.T, e *environment) {
	e.configure(t, "manage: true", "manage: false")
	stage.Eventually(t, func(context.Context) error {
		if log := e.log(t); strings.LastIndex(log, "mesh: no longer managing") < strings.LastIndex(log, "mesh: managing") {
			return errors.New("it still manages")
		}
		return nil
	})
	stage.Check(t, e.client(telemetry, "default").Delete(t.Context(), ours, metav1.DeleteOptions{}))
	e.rests(t, "default")
	e.rests(t, "pay", telemetry)
	e.configure(t, "", "")
	e.awaits(t, "default", telemetry)
}

// The token is in its Secrets, and nowhere else: not in what the controller keeps, and not in an answer to a pod's creation.
func testNoToken(t *testing.T, e *environment) {
	stage.Eventually(t, func(ctx context.Context) error { return e.seen(ctx, "pay") })
	e.NoToken(t)
}

func (e *environment) annotate(t *testing.T, namespace, annotations string) {
	t.Helper()
	e.patchNamespace(t, namespace, `{"metadata":{"annotations":`+annotations+`}}`)
}

func (e *environment) label(t *testing.T, namespace, labels string) {
	t.Helper()
	e.patchNamespace(t, namespace, `{"metadata":{"labels":`+labels+`}}`)
}

func (e *environment) patchNamespace(t *testing.T, namespace, patch string) {
	t.Helper()
	_, err := e.Client.CoreV1().Namespaces().Patch(t.Context(), namespace, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	stage.Check(t, err)
}
