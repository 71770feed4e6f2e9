package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/go-logr/zapr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/sync/errgroup"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/lightstep-injector/lightstep-injector/certs/serving"
	"github.com/lightstep-injector/lightstep-injector/internal/escape"
	"github.com/lightstep-injector/lightstep-injector/webhook"
	"github.com/lightstep-injector/lightstep-injector/webhook/panics"
	"github.com/lightstep-injector/lightstep-injector/webhook/settings"
	"github.com/lightstep-injector/lightstep-injector/webhook/snapshot"
)

// serveOptions are the flags of serve.
type serveOptions struct {
	config           string
	listen           string
	metricsListen    string
	healthListen     string
	metricsAuth      bool
	logLevel         zapcore.Level
	certificate      certificateOptions
	clients          clientOptions
	exposeToken      bool
	accessTokenFiles []string
}

func serveCommand(io streams) *cobra.Command {
	var o serveOptions
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Answer the apiserver's admission requests",
		Long: `Answer the apiserver's admission requests.

The cluster is the one of $KUBECONFIG or, inside a cluster, the pod's own. The configuration file is followed: a new one is
in force at once, and one that is not valid is reported and changes nothing.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return serve(cmd.Context(), &o, io.err) },
	}
	flags := cmd.Flags()
	flags.StringVar(&o.config, "config", "", "configuration file")
	flags.StringVar(&o.listen, "listen", ":10250", "address to answer admission requests on, over TLS")
	flags.StringVar(&o.metricsListen, "metrics-listen", ":8080", "address to serve /metrics on")
	flags.BoolVar(&o.metricsAuth, "metrics-auth", false, "authenticate and authorize requests for /metrics by the API server, and serve them over TLS with the webhook's certificate")
	flags.StringVar(&o.healthListen, "health-listen", ":8081", "address to serve /healthz and /readyz on")
	flags.TextVar(&o.logLevel, "log-level", zapcore.InfoLevel, "least severe lines to log: debug, info, warn or error")
	o.certificate.register(flags)
	o.clients.register(flags)
	flags.BoolVar(&o.exposeToken, "expose-token-in-annotations", false, "accept profiles with accessToken.delivery: annotation, by which whoever reads pods reads the token")
	flags.StringArrayVar(&o.accessTokenFiles, "access-token-file", nil, "file with the token of a profile with accessToken.delivery: annotation, as [`PROFILE=`]FILE; repeatable")
	_ = cmd.MarkFlagRequired("config") // fails for a flag that does not exist
	cmd.MarkFlagsRequiredTogether("tls-cert-file", "tls-key-file")
	cmd.MarkFlagsMutuallyExclusive("tls-cert-file", "tls-secret")
	cmd.MarkFlagsMutuallyExclusive("tls-cert-file", "self-signed")
	cmd.MarkFlagsMutuallyExclusive("client-ca-secret", "client-ca-file")
	return cmd
}

// serve runs until it is told to stop, or something that it cannot do without fails.
func serve(ctx context.Context, o *serveOptions, stderr io.Writer) error {
	stopping, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	log, restore := setUpLog(o.logLevel, stderr)
	defer restore()
	limitMemory(log)

	cluster, err := connect()
	if err != nil {
		return err
	}
	file, config, err := o.loadConfiguration((&rights{cluster.reviews, ownNamespace(), log}).checker(ctx))
	if err != nil {
		return err
	}
	registry := prometheus.NewRegistry()
	metrics, err := newMetrics(registry)
	if err != nil {
		return err
	}
	certificate, err := newCertificate(cluster, &o.certificate, log)
	if err != nil {
		return err
	}
	clients, err := newClients(cluster, &o.clients, log)
	if err != nil {
		return err
	}
	store := snapshot.NewStore(config, ownNamespace(), version())
	if err := errors.Join(webhook.RegisterLacks(registry, store), webhook.RegisterUnreadable(registry, store)); err != nil {
		return err
	}
	panicked, err := countPanics(registry)
	if err != nil {
		return err
	}
	watch := snapshot.NewWatch(cluster.reader, store, panicked.Inc, tellUnreadable(cluster), log)
	var drain webhook.Drain
	connections, err := webhook.NewConnections(registry, log)
	if err != nil {
		return err
	}
	server, err := webhook.NewServer(webhook.Options{
		Name: "webhook", Listen: o.listen, Handler: drain.Wrap(webhook.NewHandler(store, metrics, log)),
		Certificate: certificate.get, Clients: clients.auth, Connections: connections,
	})
	if err != nil {
		return usageError{fmt.Errorf("--listen: %w", err)}
	}
	keeper := newKeeper(cluster, store, watch, log)
	distributor := newDistributor(cluster, store, watch, log)
	missed := newMissedCounter(cluster, store, watch, log)
	if err := errors.Join(clients.register(registry), keeper.Register(registry), distributor.Register(registry), missed.Register(registry), serving.Register(registry, certificate.get)); err != nil {
		return err
	}
	leading := newLeading(cluster, panicked, log, certificate.lead, keeper.Lead, distributor.Lead, missed.Lead)
	reload := reloader{store: store, metrics: metrics, log: log}
	reload.loaded(config)

	running, finish := context.WithCancel(context.WithoutCancel(ctx))
	defer finish()
	group, running := errgroup.WithContext(running)
	group.Go(func() error { return server.Start(running) })
	for _, follow := range slices.Concat(certificate.run, clients.run) {
		group.Go(func() error { return follow(running) })
	}
	group.Go(func() error { return file.Follow(running, reload.use, reload.refuse) })
	group.Go(func() error { watch.Run(running); return nil })
	group.Go(func() error { return leading.run(running) })
	group.Go(func() error {
		health := webhook.Health(ready(stopping, first(certificate.usable, clients.usable), watch, server.Answers))
		return webhook.ListenAndServe(running, webhook.Options{Name: "health", Listen: o.healthListen, Handler: health, Connections: connections})
	})
	group.Go(func() error {
		return webhook.ListenAndServe(running, o.metricsOptions(metricsHandler(registry), cluster, certificate, connections))
	})
	group.Go(func() error {
		stopWell(stopping, running, &drain, log)
		finish()
		return nil
	})
	log.Info("serving", zap.String("version", version()), zap.String("listen", o.listen), zap.String("config", config.Hash()))
	return group.Wait()
}

// stopWell returns when the process has been told to stop, and the API server has turned away. The readiness has failed by
// then; the server goes on in a context of its own.
func stopWell(stopping, running context.Context, drain *webhook.Drain, log *zap.Logger) {
	select {
	case <-stopping.Done():
	case <-running.Done():
		return
	}
	log.Info("stopping: no longer ready; requests are answered while the API server turns away")
	drain.Wait(running)
}

// ready says what keeps requests from being answered well.
func ready(stopping context.Context, usable func() error, watch *snapshot.Watch, listening healthz.Checker) healthz.Checker {
	return func(r *http.Request) error {
		if stopping.Err() != nil {
			return errors.New("stopping")
		}
		if err := usable(); err != nil {
			return err
		}
		select {
		case <-watch.Synced():
			return listening(r)
		default:
			return errors.New("the cluster's namespaces and Secrets have not been listed yet")
		}
	}
}

// reloader puts configurations in force and says so.
type reloader struct {
	store   *snapshot.Store
	metrics *webhook.Metrics
	log     *zap.Logger
}

func (r *reloader) use(config *settings.Settings) {
	r.store.UseSettings(config)
	r.log.Info("configuration reloaded", zap.String("config", config.Hash()))
	r.loaded(config)
}

func (r *reloader) loaded(config *settings.Settings) {
	r.metrics.ConfigLoaded()
	for _, line := range config.Advice() {
		r.log.Info("configuration: " + line)
	}
}

func (r *reloader) refuse(err error) {
	r.metrics.ConfigRefused()
	r.log.Error("configuration refused; the last good one stays in force", zap.Error(err),
		zap.String("config", r.store.Current().Settings.Hash()))
}

// loadConfiguration reads the configuration file, and gives it the access tokens that it needs. It refuses one, then and
// later, that the check refuses.
func (o *serveOptions) loadConfiguration(check func(*settings.Settings) error) (*snapshot.File, *settings.Settings, error) {
	tokens, err := accessTokens(o.accessTokenFiles)
	if err != nil {
		return nil, nil, err
	}
	file := &snapshot.File{Path: o.config, Parse: func(content []byte) (config *settings.Settings, err error) {
		err = panics.Caught(func() (err error) { config, err = settings.Parse(content); return err })
		if err != nil {
			return nil, err
		}
		if err := o.allowTokens(config.AnnotationProfiles(), tokens); err != nil {
			return nil, err
		}
		if err := check(config); err != nil {
			return nil, err
		}
		return config.WithAccessTokens(tokens)
	}}
	config, err := file.Load()
	return file, config, err
}

// allowTokens refuses profiles that would put a token into annotations unasked, in answers to anybody, or that have no token
// to put there.
func (o *serveOptions) allowTokens(profiles []string, tokens map[string]string) error {
	for _, profile := range profiles {
		if !o.exposeToken {
			return fmt.Errorf("profiles.%s.accessToken.delivery is annotation, by which whoever reads pods reads the token: "+
				"set it to secret, or accept that with --expose-token-in-annotations", profile)
		}
		if !o.clients.required() {
			return fmt.Errorf("profiles.%s.accessToken.delivery: \"annotation\": without client certificates, every pod that reaches the webhook's port can read the token: "+
				"require them with --client-ca-secret and --client-name, or write secret", profile)
		}
		_, named := tokens[profile]
		_, unnamed := tokens[""]
		if !named && (!unnamed || len(profiles) > 1) {
			return fmt.Errorf("profiles.%s.accessToken.delivery is annotation, and there is no token for it: "+
				"give one with %s", profile, escape.Words("--access-token-file", profile+"=FILE"))
		}
	}
	return nil
}

// setUpLog makes the process's log, JSON lines whose fields are bounded and escaped, and sends the libraries' errors there too.
// What it returns undoes that.
func setUpLog(level zapcore.Level, stderr io.Writer) (*zap.Logger, func()) {
	encoder := zap.NewProductionEncoderConfig()
	encoder.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	encoder.EncodeDuration = zapcore.StringDurationEncoder
	log := zap.New(escape.Core(zapcore.NewCore(zapcore.NewJSONEncoder(encoder), zapcore.Lock(zapcore.AddSync(stderr)), level)))

	libraries := zapr.NewLogger(log.WithOptions(zap.IncreaseLevel(max(level, zapcore.ErrorLevel))))
	ctrllog.SetLogger(libraries)
	klog.SetLogger(libraries)
	restore := zap.RedirectStdLog(log.Named("http"))
	return log, func() {
		restore()
		klog.ClearLogger()
		_ = log.Sync()
	}
}

// limitMemory has the collector keep to nine tenths of the container's memory, where it has a limit and $GOMEMLIMIT says
// nothing else. How many processors the container has the runtime finds out by itself.
func limitMemory(log *zap.Logger) {
	limit, err := memlimit.Set()
	if err != nil {
		log.Info("memory: the container's limit is not known; set GOMEMLIMIT", zap.Error(err))
		return
	}
	log.Debug("memory: limited", zap.Int64("bytes", limit))
}

// ownNamespace is the namespace that this process runs in; empty outside a cluster.
func ownNamespace() string {
	if name := os.Getenv("POD_NAMESPACE"); name != "" {
		return name
	}
	content, err := os.ReadFile("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
	if err != nil {
		return ""
	}
	return string(bytes.TrimSpace(content))
}

// newMetrics registers the injector's metrics, and those of the process and its runtime.
func newMetrics(registry *prometheus.Registry) (*webhook.Metrics, error) {
	process := collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})
	if err := errors.Join(registry.Register(collectors.NewGoCollector()), registry.Register(process)); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	return webhook.NewMetrics(registry)
}

func metricsHandler(registry *prometheus.Registry) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	return mux
}

// metricsOptions are those of the metrics server. Tokens are only sent over TLS, so with --metrics-auth it has the
// webhook's certificate.
func (o *serveOptions) metricsOptions(handler http.Handler, c *cluster, served *certificate, connections *webhook.Connections) webhook.Options {
	options := webhook.Options{Name: "metrics", Listen: o.metricsListen, Handler: webhook.LimitScrapes(handler), Connections: connections}
	if o.metricsAuth {
		options.Handler = webhook.LimitScrapes(webhook.NewMetricsAuth(c.tokens, c.access).Wrap(handler))
		options.Certificate = served.get
	}
	return options
}
