package distribute

import (
	"fmt"
	"strings"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/lightstep-injector/lightstep-injector/internal/escape"
	"github.com/lightstep-injector/lightstep-injector/webhook/settings"
)

// The reasons of Events about copies.
const (
	foreignSecret = "ForeignSecret"
	copyRestored  = "CopyRestored"
)

// expiryNotices are the days before the satellite CA's expiry at which an Event says so.
func expiryNotices() []int { return []int{1, 7, 30} }

// EventReasons are the reasons of all Events that the controller records. The chart's policy rejects others.
func EventReasons() []string {
	reasons := []string{foreignSecret, copyRestored}
	for _, fault := range faults() {
		reasons = append(reasons, string(fault))
	}
	for _, days := range expiryNotices() {
		reasons = append(reasons, expiresIn(days))
	}
	return reasons
}

func expiresIn(days int) string { return fmt.Sprintf("ExpiresIn%dDays", days) }

// action is what the controller was about, in an Event's words.
const action = "Distribute"

// maxText is how much of a text an Event takes. Errors are bounded alike: they quote what policies, quotas and other webhooks say.
const maxText = 1024

// bounded cuts a text at the bound, between two characters.
func bounded(text string) string {
	return strings.ToValidUTF8(text[:min(len(text), maxText)], "")
}

// tell says, once, what somebody should know of a Secret.
func (c *Controller) tell(key types.NamespacedName, a *assessment) {
	c.mu.Lock()
	before := c.said[key]
	if noted := a.state == Foreign || a.state == Edited || a.state == Leaving; noted {
		c.said[key] = a.state
	} else {
		delete(c.said, key)
	}
	c.mu.Unlock()
	if a.state == before {
		return
	}
	log := c.Log.With(zap.String("namespace", key.Namespace), zap.String("secret", key.Name))
	switch a.state {
	case Foreign:
		log.Warn("distribute: a Secret of that name is there, and is not the injector's; it is left alone")
		c.event(key, a.found.UID, corev1.EventTypeWarning, foreignSecret,
			"the namespace is labelled for injection, and this Secret is not the injector's: it is used as it is, and never updated; delete it to have the injector's in its place")
	case Edited:
		log.Warn("distribute: the copy was edited; it is restored")
		c.event(key, a.found.UID, corev1.EventTypeWarning, copyRestored, "this copy of "+a.copy.Source+" was edited, and is restored; edit the source")
	case Leaving:
		log.Info("distribute: the copy is no longer due; it goes once no injected pod runs in the namespace")
	case Revoked:
		log.Info("distribute: the access token is no longer allowed in the namespace; its copy goes")
	}
}

// event records an Event about a Secret, in the Secret's namespace.
func (c *Controller) event(key types.NamespacedName, uid types.UID, kind, reason, note string) {
	c.Events.Eventf(&corev1.Secret{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name, UID: uid},
	}, nil, kind, reason, action, "%s", bounded(note))
}

// tellOfSources says what is new about the sources.
func (c *Controller) tellOfSources() {
	snap, _ := c.World.Now()
	now := time.Now()
	for _, of := range snap.Settings.Sources() {
		source := c.World.Source(of)
		if source == nil {
			continue
		}
		reason, note := aboutSource(source, now)
		about := source.Hash + reason
		c.mu.Lock()
		before, told := c.saidOfSources[of]
		c.saidOfSources[of] = about
		c.mu.Unlock()
		if !told || before != about {
			c.sayOfSource(of, snap.OwnNamespace, reason, note)
		}
	}
}

func (c *Controller) sayOfSource(of settings.Secret, own, reason, note string) {
	log := c.Log.With(zap.String("secret", of.Name), zap.String("key", of.Key))
	if reason == "" {
		log.Info("distribute: the source is fit to be handed out")
		return
	}
	log.Warn("distribute: source", zap.String("reason", reason), escape.LogText("says", note))
	c.event(types.NamespacedName{Namespace: own, Name: of.Name}, "", corev1.EventTypeWarning, reason, note)
}

// aboutSource is a source's problem, or that it soon has one.
func aboutSource(source *Source, now time.Time) (reason, note string) {
	if problem := source.Problem(now); problem != nil {
		return string(problem.Fault), problem.Says
	}
	expiry, ok := source.Expiry(now)
	for _, days := range expiryNotices() { // the nearest that has come
		if ok && expiry.Sub(now) <= time.Duration(days)*24*time.Hour {
			return expiresIn(days), "a certificate of the satellite CA expires on " + expiry.Format(time.RFC3339) + ": put the next one beside it, and take it out once the satellites use the next"
		}
	}
	return "", ""
}
