package distribute

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/lightstep-injector/lightstep-injector/e2e/injector"
	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

// states is one cluster and one replica, on which the tests below follow one another.
type states struct {
	*environment
	replica *injector.Injector
}

// TestStates looks at what somebody sees who does not read Secrets: Events, metrics, the log.
func TestStates(t *testing.T) {
	s := &states{environment: setUp(t)}
	s.replica = s.environment.replica(t, "one")
	stage.Check(t, s.replica.Start(t.Context()))
	t.Run("Foreign", s.foreign)
	t.Run("Faults", s.faults)
	t.Run("Expiry", s.expiry)
	t.Run("TwoInOne", s.overlap)
	t.Run("TokenFaults", s.tokenFaults)
	t.Run("Tenant", s.tenant)
	t.Run("Revoked", s.revoked)
	t.Run("OutsideItsRights", s.outsideItsRights)
	t.Run("LeaseLost", s.leaseLost)
	s.onlyNamed(t)
	t.Run("NothingTold", s.nothingTold)
}

// TestListed: where the chart is given the namespaces, the account may write in these alone, and the others are left.
func TestListed(t *testing.T) {
	s := &states{environment: bringUp(t)}
	for _, name := range []string{"listed", "other"} {
		s.namespace(t, name, labelled())
	}
	s.install(t, "--set", "distribution.namespaces={listed}")
	s.replica = s.environment.replica(t, "one")
	stage.Check(t, s.replica.Start(t.Context()))
	good := goodCA(t)
	s.source(t, caSource, caKey, good)
	s.eventuallyHas(t, "listed", caName, caKey, good)
	await(t, s.replica, "missing", 1)
	s.logged(t, "distribute: failed; it is tried again", 1)
	if _, err := s.admin.CoreV1().Secrets("other").Get(t.Context(), caName, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("a namespace that is not listed has the Secret: %v", err)
	}
	s.onlyNamed(t)
}

// secretToken is looked for in all that the injector says.
const secretToken = "canary-token-7f3a9b"

// foreign: a Secret that was there first is told of, in its namespace and in the gauge, and left as it is.
func (s *states) foreign(t *testing.T) {
	s.namespace(t, "theirs", nil)
	stage.Check(t, s.put(t.Context(), "theirs", caName, map[string][]byte{"theirs": []byte("x")}))
	before := s.secret(t, "theirs", caName)
	s.label(t, "theirs", "")
	s.event(t, "theirs", caName, "ForeignSecret", "never updated")
	await(t, s.replica, "foreign", 1)
	if after := s.secret(t, "theirs", caName); after.ResourceVersion != before.ResourceVersion {
		t.Errorf("it was written to: %+v", after)
	}
}

// faults: each bad source is told of by its name, and what was handed out before stays.
func (s *states) faults(t *testing.T) {
	s.namespace(t, "shop", labelled())
	s.event(t, own, caSource, "SourceMissing", "create it with the key cacert.pem")
	good := goodCA(t)
	s.source(t, caSource, caKey, good)
	s.eventuallyHas(t, "shop", caName, caKey, good)
	for fault, value := range badCAs(t) {
		s.source(t, caSource, caKey, value)
		s.event(t, own, caSource, fault, "")
		s.problem(t, caSource, fault, 1)
		s.eventuallyHas(t, "shop", caName, caKey, good)
	}
	s.source(t, caSource, "another-key", good)
	s.event(t, own, caSource, "KeyMissing", "has no key cacert.pem")
	next := goodCA(t)
	s.source(t, caSource, caKey, next)
	s.eventuallyHas(t, "shop", caName, caKey, next)
	s.problem(t, caSource, "KeyMissing", 0)
}

// expiry: the nearer the end, the more is said.
func (s *states) expiry(t *testing.T) {
	for _, c := range []struct {
		left   time.Duration
		reason string
	}{{20 * day, "ExpiresIn30Days"}, {3 * day, "ExpiresIn7Days"}, {12 * time.Hour, "ExpiresIn1Days"}} {
		s.source(t, caSource, caKey, certificate(t, -time.Hour, c.left, true))
		s.event(t, own, caSource, c.reason, "put the next one beside it")
		stage.Eventually(t, func(ctx context.Context) error {
			left, err := s.replica.Metric(ctx, "lightstep_injector_satellite_ca_expiry_seconds", map[string]string{"secret": caSource})
			if err == nil && (left > c.left.Seconds() || left < c.left.Seconds()-stage.Deadline.Seconds()) {
				err = fmt.Errorf("%v seconds are left of %v", left, c.left)
			}
			return err
		})
	}
}

// overlap: while the satellites change over, the old CA and the next stand side by side.
func (s *states) overlap(t *testing.T) {
	old, next := goodCA(t), goodCA(t)
	for _, value := range [][]byte{old, append(old, next...), next} {
		s.source(t, caSource, caKey, value)
		s.eventuallyHas(t, "shop", caName, caKey, value)
	}
	s.event(t, own, otherSource, "SourceMissing", "create it with the key ca.crt")
}

func (s *states) tokenFaults(t *testing.T) {
	s.namespace(t, "allowed-shop", labelled())
	s.source(t, tokenSource, tokenKey, []byte(secretToken+"\n"))
	s.event(t, own, tokenSource, "TokenNotClean", "the line feed that echo adds")
	s.source(t, tokenSource, tokenKey, []byte(secretToken))
	s.eventuallyHas(t, "allowed-shop", tokenName, tokenKey, []byte(secretToken))
}

// tenant: nothing that somebody can write who may label and annotate a namespace gets it a token, or another source.
func (s *states) tenant(t *testing.T) {
	s.namespace(t, "tenant", labelled())
	s.eventuallyHas(t, "tenant", caName, caKey, s.secret(t, own, caSource).Data[caKey])
	other := goodCA(t)
	s.source(t, otherSource, otherKey, other)
	random := rand.New(rand.NewPCG(1, 1))
	keys := []string{"profile", "source", "access-token", "token", "allowed-namespaces", "secret-name", "status", "managed", "inject", "injected"}
	values := []string{"default", "other", "nosuch", own + "/" + tokenSource, tokenSource, "kube-system/any", "*", "true", "../" + own}
	for range 40 {
		patch := fmt.Sprintf(`{"metadata":{"labels":{"lightstep.com/injection":"enabled","lightstep.com/%s":"true"},"annotations":{"lightstep.com/%s":%q,"lightstep.com/profile":%q}}}`,
			keys[random.IntN(len(keys))], keys[1+random.IntN(len(keys)-1)], values[random.IntN(len(values))], values[random.IntN(len(values))])
		_, err := s.admin.CoreV1().Namespaces().Patch(t.Context(), "tenant", types.MergePatchType, []byte(patch), metav1.PatchOptions{})
		stage.Check(t, err)
	}
	s.label(t, "tenant", "other")
	s.eventuallyHas(t, "tenant", otherName, otherKey, other) // by then all that came before has been looked at, too
	list, err := s.admin.CoreV1().Secrets("tenant").List(t.Context(), metav1.ListOptions{})
	stage.Check(t, err)
	for _, secret := range list.Items {
		if secret.Name != caName && secret.Name != otherName {
			t.Errorf("the tenant was given %s", secret.Name)
		}
		if source := secret.Annotations["lightstep.com/source"]; source != own+"/"+caSource && source != own+"/"+otherSource {
			t.Errorf("%s has the source %s", secret.Name, source)
		}
	}
}

// revoked: a token that the configuration no longer allows is taken back at once, though pods run: it is mounted nowhere.
func (s *states) revoked(t *testing.T) {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "running", Labels: map[string]string{"lightstep.com/injected": "true"}},
		Spec:       corev1.PodSpec{SchedulerName: "nobody", Containers: []corev1.Container{{Name: "app", Image: "app"}}},
	}
	stage.Eventually(t, func(ctx context.Context) error {
		_, err := s.admin.CoreV1().Pods("allowed-shop").Create(ctx, pod, metav1.CreateOptions{})
		return err
	})
	s.configure(t, `"allowed-*"`, `"nobody"`)
	stage.Eventually(t, func(ctx context.Context) error {
		if _, err := s.admin.CoreV1().Secrets("allowed-shop").Get(ctx, tokenName, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			return fmt.Errorf("the token is still there: %w", err)
		}
		return nil
	})
	s.configure(t, `"nobody"`, `"allowed-*"`)
	s.eventuallyHas(t, "allowed-shop", tokenName, tokenKey, []byte(secretToken))
}

// outsideItsRights: a configuration that needs a Secret beyond those that the chart was installed for is not taken.
func (s *states) outsideItsRights(t *testing.T) {
	s.configure(t, "secretName: other.cacert", "secretName: elsewhere")
	const want = `profiles.other.caCertificate.secretName: \"elsewhere\": the injector's account may not watch Secrets of that name: set the Helm value config.profiles.other.caCertificate.secretName`
	stage.Eventually(t, func(context.Context) error {
		log, err := os.ReadFile(s.replica.LogFile())
		if err == nil && !strings.Contains(string(log), want) {
			err = errors.New("the log does not say so")
		}
		return err
	})
	next := goodCA(t)
	s.source(t, otherSource, otherKey, next)
	s.eventuallyHas(t, "tenant", otherName, otherKey, next) // the last good one is in force
	s.configure(t, "secretName: elsewhere", "secretName: other.cacert")
}

// leaseLost: whoever loses the lease stops, goes on answering, and leads again when it is to be had.
func (s *states) leaseLost(t *testing.T) {
	pid := s.replica.PID()
	leases := s.admin.CoordinationV1().Leases(own)
	stolen := fmt.Sprintf(`{"spec":{"holderIdentity":"somebody","renewTime":%q}}`, time.Now().UTC().Format("2006-01-02T15:04:05.000000Z"))
	_, err := leases.Patch(t.Context(), "lightstep-injector", types.MergePatchType, []byte(stolen), metav1.PatchOptions{})
	stage.Check(t, err)
	s.namespace(t, "later", labelled())
	s.logged(t, "distribute: no longer leading", 1)
	stage.Check(t, s.replica.Ready(t.Context()))
	if _, err := s.replica.Metric(t.Context(), "lightstep_injector_copies", nil); err == nil {
		t.Error("it speaks for the cluster, and does not lead")
	}
	s.logged(t, "distribute: leading", 2)
	s.eventuallyHas(t, "later", caName, caKey, s.secret(t, own, caSource).Data[caKey])
	stage.Check(t, s.replica.Ready(t.Context()))
	if s.replica.PID() != pid {
		t.Error("it was started anew")
	}
}

// logged waits until the log has a message so many times.
func (s *states) logged(t *testing.T, message string, times int) {
	t.Helper()
	stage.Eventually(t, func(context.Context) error {
		log, err := os.ReadFile(s.replica.LogFile())
		if got := strings.Count(string(log), `"`+message+`"`); err == nil && got < times {
			err = fmt.Errorf("the log says %q %d times, not %d", message, got, times)
		}
		return err
	})
}

// nothingTold: the token, and what bad sources hold, is in no Event, metric or log line of all this.
func (s *states) nothingTold(t *testing.T) {
	metrics, err := s.replica.Metrics(t.Context())
	stage.Check(t, err)
	log, err := os.ReadFile(s.replica.LogFile())
	stage.Check(t, err)
	events, err := s.admin.EventsV1().Events("").List(t.Context(), metav1.ListOptions{})
	stage.Check(t, err)
	for what, text := range map[string]string{"metrics": string(metrics), "the log": string(log), "Events": events.String()} {
		if text == "" || strings.Contains(text, secretToken) || strings.Contains(text, sourceCanary) {
			t.Errorf("%s: empty, or the token or a source's content is in it", what)
		}
	}
}

// label labels a namespace, and has it pick a profile.
func (s *states) label(t *testing.T, name, profile string) {
	t.Helper()
	patch := fmt.Sprintf(`{"metadata":{"labels":{"lightstep.com/injection":"enabled"},"annotations":{"lightstep.com/profile":%q}}}`, profile)
	if profile == "" {
		patch = `{"metadata":{"labels":{"lightstep.com/injection":"enabled"}}}`
	}
	_, err := s.admin.CoreV1().Namespaces().Patch(t.Context(), name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	stage.Check(t, err)
}

func (s *states) source(t *testing.T, name, key string, value []byte) {
	t.Helper()
	stage.Check(t, s.put(t.Context(), own, name, map[string][]byte{key: value}))
}

func (s *states) secret(t *testing.T, namespace, name string) *corev1.Secret {
	t.Helper()
	secret, err := s.admin.CoreV1().Secrets(namespace).Get(t.Context(), name, metav1.GetOptions{})
	stage.Check(t, err)
	return secret
}

func (s *states) eventuallyHas(t *testing.T, namespace, name, key string, value []byte) {
	t.Helper()
	stage.Eventually(t, func(ctx context.Context) error {
		secret, err := s.admin.CoreV1().Secrets(namespace).Get(ctx, name, metav1.GetOptions{})
		if err == nil && string(secret.Data[key]) != string(value) {
			err = fmt.Errorf("%s/%s has another value", namespace, name)
		}
		return err
	})
}

// event waits for an Event about a Secret.
func (s *states) event(t *testing.T, namespace, name, reason, says string) {
	t.Helper()
	stage.Eventually(t, func(ctx context.Context) error {
		list, err := s.admin.EventsV1().Events(namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		for _, event := range list.Items {
			if event.Regarding.Kind == "Secret" && event.Regarding.Name == name && event.Reason == reason && strings.Contains(event.Note, says) {
				return nil
			}
		}
		return fmt.Errorf("no Event %s about %s/%s that says %q", reason, namespace, name, says)
	})
}

func (s *states) problem(t *testing.T, source, fault string, want float64) {
	t.Helper()
	stage.Eventually(t, func(ctx context.Context) error {
		got, err := s.replica.Metric(ctx, "lightstep_injector_source_problem", map[string]string{"secret": source, "fault": fault})
		if err == nil && got != want {
			err = fmt.Errorf("source_problem of %s, %s: %v", source, fault, got)
		}
		return err
	})
}

// configure changes the configuration file.
func (s *states) configure(t *testing.T, before, after string) {
	t.Helper()
	config, err := os.ReadFile(s.config)
	stage.Check(t, err)
	if !strings.Contains(string(config), before) {
		t.Fatalf("the configuration has no %s", before)
	}
	stage.Check(t, injector.WriteConfig(s.config, []byte(strings.ReplaceAll(string(config), before, after))))
}
