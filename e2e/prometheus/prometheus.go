package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/common/promslog"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/tsdb"
)

// evaluation is how often a group that does not say so is evaluated; the steps are what they are.
const evaluation = 30 * time.Second

// prometheus is one: a storage, the rules, and the time that it is.
type prometheus struct {
	db      *tsdb.DB
	query   rules.QueryFunc
	groups  []*rules.Group
	now     time.Time
	scraped map[string]scraped // of each target, the last time
	seen    seen
}

func newPrometheus(dir string, now time.Time, content []byte, seen seen) (*prometheus, error) {
	options := tsdb.DefaultOptions()
	options.WALSegmentSize = -1 // nothing is to outlive the process
	db, err := tsdb.Open(filepath.Join(dir, "tsdb"), promslog.NewNopLogger(), nil, options, nil)
	if err != nil {
		return nil, fmt.Errorf("open the storage: %w", err)
	}
	engine := promql.NewEngine(promql.EngineOpts{MaxSamples: 1_000_000, Timeout: time.Minute, Parser: parser.NewParser(parser.Options{})})
	p := &prometheus{db: db, query: rules.EngineQueryFunc(engine, db), now: now, scraped: map[string]scraped{}, seen: seen}
	file := filepath.Join(dir, "rules.yaml")
	if err := errors.Join(os.WriteFile(file, content, 0o600), p.load(file)); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return p, nil
}

// load reads a file of rules as strictly as promtool does.
func (p *prometheus) load(file string) error {
	manager := rules.NewManager(&rules.ManagerOptions{
		NameValidationScheme: model.UTF8Validation,
		ExternalURL:          &url.URL{},
		QueryFunc:            p.query,
		NotifyFunc:           func(context.Context, string, ...*rules.Alert) {},
		Context:              context.Background(),
		Appendable:           p.db,
		Queryable:            p.db,
		Logger:               promslog.NewNopLogger(),
		Parser:               parser.NewParser(parser.Options{}),
	})
	groups, errs := manager.LoadGroups(evaluation, labels.EmptyLabels(), "", nil, false, file)
	p.groups = slices.Collect(maps.Values(groups))
	return errors.Join(errs...)
}

func (p *prometheus) close() error { return p.db.Close() }

// step lets virtual time pass, scrapes, and evaluates the rules.
func (p *prometheus) step(ctx context.Context, by time.Duration, targets []target) error {
	p.now = p.now.Add(by)
	if err := p.scrape(ctx, targets); err != nil {
		return err
	}
	for _, group := range p.groups {
		group.Eval(ctx, p.now)
		for _, rule := range group.Rules() {
			if err := rule.LastError(); err != nil {
				return fmt.Errorf("rule %s: %w", rule.Name(), err)
			}
		}
	}
	return nil
}

// alerts are those that are pending or firing.
func (p *prometheus) alerts() []*rules.Alert {
	var active []*rules.Alert
	for _, group := range p.groups {
		for _, alerting := range group.AlertingRules() {
			active = append(active, alerting.ActiveAlerts()...)
		}
	}
	return active
}
