package certmanager

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lightstep-injector/lightstep-injector/e2e/load"
	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

var renewals = flag.Int("renewals", 6, "how many renewals of the certificate")

// TestCertManager is the life of an installation, in this order.
func TestCertManager(t *testing.T) {
	e := setUp(t)
	e.upgrade(t, certManager()...)
	e.balance(t)
	ok := t.Run("Accepted", e.accepted) &&
		t.Run("FreshInstall", e.freshInstall) &&
		t.Run("Renewals", e.renewals) &&
		t.Run("SameAgain", e.sameAgain) &&
		t.Run("RootRenewed", e.rootRenewed) &&
		t.Run("RootReplaced", e.rootReplaced) &&
		t.Run("ToSelfManaged", e.toSelfManaged) &&
		t.Run("ToCertManager", e.toCertManager) &&
		t.Run("ToOwnIssuer", e.toOwnIssuer) &&
		t.Run("ToExisting", e.toExisting)
	t.Logf("all parts ran: %v", ok)
}

// certManager are the chart's flags for it.
func certManager(more ...string) []string {
	return append([]string{"--set", "certificate.mode=certManager"}, more...)
}

// accepted: cert-manager's types know every field of what the chart makes of its kinds, and so does the API server.
func (e *environment) accepted(t *testing.T) {
	for name, c := range map[string]struct{ flags, want []string }{
		"a root of its own": {
			certManager(), []string{"Issuer/" + rootName, "Certificate/" + rootName, "Issuer/" + leafName, "Certificate/" + leafName},
		},
		"an issuer of yours": {
			certManager("--set", "certificate.issuerRef.kind=ClusterIssuer,certificate.issuerRef.name=yours"), []string{"Certificate/" + leafName},
		},
	} {
		text, err := e.helm.Render(t.Context(), c.flags...)
		stage.Check(t, err)
		got, err := e.manager.Decode(t.Context(), text)
		if err != nil || !slices.Equal(sorted(got), sorted(c.want)) {
			t.Errorf("%s: %v: %v", name, got, err)
		}
		file := filepath.Join(t.TempDir(), "rendered.yaml")
		stage.Check(t, os.WriteFile(file, text, 0o600))
		cmd := exec.CommandContext(t.Context(), e.Cluster.Kubectl, "apply", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict", "-f", file)
		cmd.Env = append(os.Environ(), "KUBECONFIG="+e.Cluster.Kubeconfig)
		if output, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", name, err, output)
		}
	}
}

func sorted(names []string) []string {
	slices.Sort(names)
	return names
}

// freshInstall: an installation is ready by itself, and the first pod is injected.
func (e *environment) freshInstall(t *testing.T) {
	e.rollOut(t)
	stage.Check(t, load.Labelled(t.Context(), e.Client, "first"))
	made, err := e.Client.CoreV1().Pods("first").Create(t.Context(), load.Pod(0), metav1.CreateOptions{})
	stage.Check(t, err)
	if !load.Injected(made) {
		t.Errorf("the first pod was missed: %v", made.Labels)
	}
	leaf := e.issued(t, secretName, nil)
	e.served(t, leaf)
	e.trusts(t, leaf, 1)
}

// renewals: by request, and because the Secret is gone, the certificate is renewed, and the caBundle stays as it is.
func (e *environment) renewals(t *testing.T) {
	before := e.configuration(t)
	e.nothingLost(t, func() {
		for i := range *renewals {
			leaf := e.issued(t, secretName, nil)
			if i%2 == 0 {
				e.renew(t, leafName)
			} else {
				e.forget(t, leafName, secretName)
			}
			e.served(t, e.issued(t, secretName, leaf))
		}
	})
	if after := e.configuration(t); after.ResourceVersion != before.ResourceVersion {
		t.Error("the webhook configuration was written")
	}
}

// sameAgain: an upgrade with the same values writes neither of the two objects.
func (e *environment) sameAgain(t *testing.T) {
	before := e.configuration(t).ResourceVersion + " " + e.secret(t, secretName).ResourceVersion
	for range 2 {
		e.upgrade(t, certManager()...)
	}
	if after := e.configuration(t).ResourceVersion + " " + e.secret(t, secretName).ResourceVersion; after != before {
		t.Errorf("versions %s became %s", before, after)
	}
}

// rootRenewed: the root keeps its key, so that the new one verifies the certificate that is there, even where cert-manager
// replaces the caBundle, as it did before 1.19.
func (e *environment) rootRenewed(t *testing.T) {
	leaf := e.issued(t, secretName, nil)
	e.nothingLost(t, func() {
		root := e.issued(t, rootName, nil)
		e.renew(t, rootName)
		root = e.issued(t, rootName, root)
		e.published(t, root)
		if err := leaf.CheckSignatureFrom(root); err != nil {
			t.Errorf("the new root does not verify the certificate: %v", err)
		}
	})
	e.trusts(t, leaf, 2)
}

// rootReplaced: a root with another key is trusted before it signs. The old one is trusted until somebody takes it out.
func (e *environment) rootReplaced(t *testing.T) {
	e.nothingLost(t, func() {
		root, leaf := e.issued(t, rootName, nil), e.issued(t, secretName, nil)
		e.forget(t, rootName, rootName)
		root = e.issued(t, rootName, root)
		e.published(t, root)
		e.settled(t, rootName)
		e.renew(t, leafName)
		leaf = e.issued(t, secretName, leaf)
		e.served(t, leaf)
		if err := leaf.CheckSignatureFrom(root); err != nil {
			t.Errorf("the certificate is not of the new root: %v", err)
		}
		e.trusts(t, leaf, 3)
	})
	e.emptyBundle(t)
	e.trusts(t, e.issued(t, secretName, nil), 1)
}

// toSelfManaged: the injector replaces what cert-manager has left, and cert-manager no longer writes.
func (e *environment) toSelfManaged(t *testing.T) {
	e.nothingLost(t, func() {
		leaf := e.issued(t, secretName, nil)
		e.upgrade(t, "--set", "certificate.mode=selfManaged")
		e.rollOut(t)
		leaf = e.issued(t, secretName, leaf)
		e.served(t, leaf)
		e.trusts(t, leaf, 1)
	})
	e.writtenBy(t, "lightstep-injector")
	left, err := e.objects.Resource(certificates()).Namespace(own).List(t.Context(), metav1.ListOptions{})
	stage.Check(t, err)
	if len(left.Items) != 0 {
		t.Errorf("there is still %d of cert-manager's certificates", len(left.Items))
	}
	e.secret(t, rootName) // which cert-manager leaves there
}

// toCertManager: the injector no longer writes. The CA of its last certificate is trusted until it expires.
func (e *environment) toCertManager(t *testing.T) {
	e.nothingLost(t, func() {
		leaf := e.issued(t, secretName, nil)
		e.upgrade(t, certManager()...)
		leaf = e.issued(t, secretName, leaf)
		e.rollOut(t)
		e.served(t, leaf)
		e.trusts(t, leaf, 2)
	})
	e.writtenBy(t, "cert-manager-certificates-issuing")
}

// toOwnIssuer: of an issuer that is not the chart's, the CA is known by what it has signed alone, and so is trusted a moment late.
func (e *environment) toOwnIssuer(t *testing.T) {
	e.clusterIssuer(t, "yours")
	leaf := e.issued(t, secretName, nil)
	e.during(t, func() {
		e.upgrade(t, certManager("--set", "certificate.issuerRef.kind=ClusterIssuer,certificate.issuerRef.name=yours")...)
		leaf = e.issued(t, secretName, leaf)
		e.served(t, leaf)
		e.trusts(t, leaf, 3)
	})
	if leaf.Issuer.CommonName != "yours" {
		t.Errorf("it was issued by %s", leaf.Issuer)
	}
}

// toExisting: a certificate of one's own, by the steps that docs/certificates.md tells.
func (e *environment) toExisting(t *testing.T) {
	mine := e.newPair(t)
	existing := func(caBundle ...[]byte) []string {
		file := filepath.Join(t.TempDir(), "ca.pem")
		stage.Check(t, os.WriteFile(file, slices.Concat(caBundle...), 0o600))
		return []string{"--set", "certificate.mode=existing", "--set-file", "certificate.caBundle=" + file}
	}
	both := existing(e.configuration(t).Webhooks[0].ClientConfig.CABundle, mine.ca)
	if _, err := e.helm.Upgrade(t.Context(), e.Cluster, append([]string{"--values", "testdata/values.yaml"}, both...)...); err == nil || !strings.Contains(err.Error(), "caBundle") {
		t.Errorf("Helm takes cainjector's caBundle over by itself: %v", err)
	}
	e.nothingLost(t, func() {
		e.upgrade(t, append(both, "--force-conflicts")...)
		e.published(t, mine.root)
		e.put(t, mine)
		e.served(t, mine.leaf)
		e.upgrade(t, existing(mine.ca)...)
		e.trusts(t, mine.leaf, 1)
	})
}
