package webhook

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/cache"
	authentication "k8s.io/client-go/kubernetes/typed/authentication/v1"
	authorization "k8s.io/client-go/kubernetes/typed/authorization/v1"

	"github.com/lightstep-injector/lightstep-injector/webhook/fairshare"
)

const (
	// maxScrapes bounds the requests for metrics that are answered at once.
	maxScrapes = 4
	// reviewTimeout bounds the API server's reviews of one scrape.
	reviewTimeout = 5 * time.Second
	// acceptedFor and rejectedFor are how long an answer of the API server counts for the same token.
	acceptedFor = time.Minute
	rejectedFor = 10 * time.Second
	// maxTokens bounds the tokens whose answer is remembered, accepted and rejected ones each.
	maxTokens = 128
)

// LimitScrapes bounds the requests that a handler answers at once. A new request takes the place of one of the client
// that has most, so slow readers at one address do not keep Prometheus out. One that has lost its place goes on to gather
// metrics until it writes, so those that run are bounded, too.
func LimitScrapes(handler http.Handler) http.Handler {
	slots, running := fairshare.NewPool(maxScrapes, maxScrapes, 1, func() {}), fairshare.NewQueue(maxScrapes, 1)
	unknown := new(fairshare.Client)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		client := unknown
		if c := connectionOf(r.Context()); c != nil {
			client = c.held.Client()
		}
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		held := slots.Hold(client, func() {
			cancel()
			_ = http.NewResponseController(w).SetWriteDeadline(time.Unix(1, 0))
		})
		defer held.Release()
		if !held.Displace(1) || running.Acquire(ctx, client) != nil {
			http.Error(w, "too many requests", http.StatusServiceUnavailable)
			return
		}
		defer running.Release(client)
		handler.ServeHTTP(w, r.WithContext(ctx))
	})
}

// MetricsAuth asks the API server who a client is, by the bearer token, and whether that user may get the path.
type MetricsAuth struct {
	// Tokens reviews tokens, and Access reviews permissions.
	Tokens authentication.TokenReviewsGetter
	Access authorization.SubjectAccessReviewsGetter

	accepted, rejected *cache.LRUExpireCache
}

// NewMetricsAuth returns a MetricsAuth around clients of the API server.
func NewMetricsAuth(tokens authentication.TokenReviewsGetter, access authorization.SubjectAccessReviewsGetter) *MetricsAuth {
	return &MetricsAuth{
		Tokens: tokens, Access: access,
		accepted: cache.NewLRUExpireCache(maxTokens), rejected: cache.NewLRUExpireCache(maxTokens),
	}
}

// Wrap returns a handler that only passes on the requests of clients that may get the path.
func (a *MetricsAuth) Wrap(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		if !strings.EqualFold(scheme, "Bearer") || token == "" {
			http.Error(w, "a bearer token is required", http.StatusUnauthorized)
			return
		}
		status, err := a.review(r, strings.TrimSpace(token))
		switch {
		case err != nil:
			http.Error(w, "the API server cannot review the token", http.StatusServiceUnavailable)
		case status != http.StatusOK:
			http.Error(w, "the token is not valid, or its user may not get "+r.URL.Path, status)
		default:
			handler.ServeHTTP(w, r)
		}
	})
}

// review returns the HTTP status for a token: 200, 401 or 403.
func (a *MetricsAuth) review(r *http.Request, token string) (int, error) {
	key := sha256.Sum256([]byte(r.Method + " " + r.URL.Path + " " + token))
	for _, known := range []*cache.LRUExpireCache{a.accepted, a.rejected} {
		if status, ok := known.Get(key); ok {
			return status.(int), nil
		}
	}
	status, err := a.ask(r, token)
	if err != nil {
		return 0, err
	}
	if status == http.StatusOK {
		a.accepted.Add(key, status, acceptedFor)
	} else {
		a.rejected.Add(key, status, rejectedFor)
	}
	return status, nil
}

// ask asks the API server.
func (a *MetricsAuth) ask(r *http.Request, token string) (int, error) {
	ctx, cancel := context.WithTimeout(r.Context(), reviewTimeout)
	defer cancel()
	who, err := a.Tokens.TokenReviews().Create(ctx, &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token}}, metav1.CreateOptions{})
	if err != nil {
		return 0, fmt.Errorf("review token: %w", err)
	}
	if !who.Status.Authenticated {
		return http.StatusUnauthorized, nil
	}
	user := who.Status.User
	extra := make(map[string]authorizationv1.ExtraValue, len(user.Extra))
	for name, values := range user.Extra {
		extra[name] = authorizationv1.ExtraValue(values)
	}
	may, err := a.Access.SubjectAccessReviews().Create(ctx, &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User: user.Username, Groups: user.Groups, UID: user.UID, Extra: extra,
		NonResourceAttributes: &authorizationv1.NonResourceAttributes{Path: r.URL.Path, Verb: strings.ToLower(r.Method)},
	}}, metav1.CreateOptions{})
	if err != nil {
		return 0, fmt.Errorf("review access: %w", err)
	}
	if !may.Status.Allowed {
		return http.StatusForbidden, nil
	}
	return http.StatusOK, nil
}
