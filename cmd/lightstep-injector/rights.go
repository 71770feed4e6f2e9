package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"
	review "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	authorization "k8s.io/client-go/kubernetes/typed/authorization/v1"

	"github.com/lightstep-injector/lightstep-injector/webhook/settings"
)

// rightsPatience bounds how long a configuration waits for the API server to say what the injector may do.
const rightsPatience = 5 * time.Second

// rights asks the API server what the injector's account may do with Secrets.
type rights struct {
	reviews authorization.SelfSubjectAccessReviewsGetter
	own     string
	log     *zap.Logger
}

// checker is check, for as long as the context lasts.
func (r *rights) checker(ctx context.Context) func(*settings.Settings) error {
	return func(config *settings.Settings) error { return r.check(ctx, config) }
}

// check refuses a configuration that names Secrets that the account was not given the right to: the rights are rendered
// from the configuration that the chart was installed with, and a name that has come since is outside them. Where the API
// server does not answer, the configuration is taken: it is better than none.
func (r *rights) check(ctx context.Context, config *settings.Settings) error {
	ctx, cancel := context.WithTimeout(ctx, rightsPatience)
	defer cancel()
	var refused, unwritable []error
	writable := false
	for _, use := range config.Uses() {
		namespace := ""
		if use.Source {
			if namespace = r.own; namespace == "" {
				continue // nothing is copied then
			}
		}
		may, err := r.may(ctx, "watch", use.Name, namespace)
		if err != nil {
			r.log.Warn("the API server does not say what the injector may do with Secrets; the configuration is taken as it is", zap.Error(err))
			return nil
		}
		if !may {
			refused = append(refused, outside(use, "watch"))
		}
		if !use.Copied {
			continue
		}
		if may, err = r.may(ctx, "patch", use.Name, ""); err == nil && !may {
			unwritable = append(unwritable, outside(use, "write"))
		}
		writable = writable || may
	}
	if writable { // where nothing may be written everywhere, that is how it was installed
		refused = append(refused, unwritable...)
	}
	return errors.Join(refused...)
}

func outside(use settings.Use, verb string) error {
	return fmt.Errorf("%s: %q: the injector's account may not %s Secrets of that name: set the Helm value config.%s, from which its rights are made, and upgrade the release", use.Field, use.Name, verb, use.Field)
}

// may asks for one right; the empty namespace stands for all of them.
func (r *rights) may(ctx context.Context, verb, name, namespace string) (bool, error) {
	answer, err := r.reviews.SelfSubjectAccessReviews().Create(ctx, &review.SelfSubjectAccessReview{Spec: review.SelfSubjectAccessReviewSpec{
		ResourceAttributes: &review.ResourceAttributes{Verb: verb, Version: "v1", Resource: "secrets", Name: name, Namespace: namespace},
	}}, metav1.CreateOptions{})
	if err != nil {
		return false, err
	}
	return answer.Status.Allowed, nil
}
