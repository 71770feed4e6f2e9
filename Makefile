# Everything here needs Go, make and git alone. `make` says what there is.

# One set of build flags for everything, so that packages are compiled once.
export CGO_ENABLED = 0
export GOFLAGS = -trimpath

modules := . e2e e2e/certmanager e2e/controlplane e2e/helm e2e/istio/istiod e2e/istio/v1_7 e2e/istio/v1_26 e2e/istio/v1_31 e2e/prometheus tools tools/release
lint := $(CURDIR)/.cache/bin/golangci-lint
helm-docs := $(CURDIR)/.cache/bin/helm-docs
# Values stand in the order of the file.
describe = $(helm-docs) --chart-search-root manifests/chart --sort-values-order file --log-level warning
helm := .cache/bin/helm
fuzztime ?= 10m
# How many generated texts of tenants go through every command.
texts ?= 1000000
# How often, and for how long.
reliably ?= -rotations=100 -pods=100000 -soak=30m -roll-outs=50 -crashes=9 -kills=500
# Shrinking an input that is new takes up to a minute if it may, which is not spent on looking for more.
shrink = -fuzzminimizetime 1s
# How the demo and the end-to-end tests are compiled, with all that they run: as e2e/compile says, so that each package is once.
e2e-flags = GOGC=400 GOFLAGS='-trimpath "-gcflags=all=-dwarf=0 -l"'
# envtest notes the ports it has given away in the user's cache folder; ours is in the clone, Go's stays where it is.
keep-here = GOCACHE="$$(go env GOCACHE)" XDG_CACHE_HOME=$(CURDIR)/.cache

.PHONY: help
help: ## Show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build bin/lightstep-injector
	go build -o bin/ ./cmd/lightstep-injector

.PHONY: image
image: ## The image for amd64 and arm64 in bin/image, with no container engine
	go run -C tools/release . -root $(CURDIR) -out $(CURDIR)/bin/image -image

.PHONY: release
release: $(helm) ## All of a release in bin/dist; pushed only where PUSH names a repository of images
	go run -C tools/release . -root $(CURDIR) -out $(CURDIR)/bin/dist -helm $(CURDIR)/$(helm) $(if $(PUSH),-push $(PUSH))

.PHONY: pins
pins: ## Write the commits of the workflows' actions and the digest of the base image, as GitHub and the registry have them
	go run -C tools/release ./workflows -root $(CURDIR) -update

$(helm): e2e/helm/go.mod e2e/helm/go.sum e2e/helm/main.go
	$(e2e-flags) go build -C e2e/helm -o $(CURDIR)/$@ -ldflags '-s -w' .

.PHONY: demo
demo: ## See Bookinfo come up injected on a real control plane (DEMO_KEEP=1 leaves it up)
	@echo "compiling the demo; the first time this takes a minute or two"
	@{ go list -C e2e/controlplane -deps . && go list -deps ./cmd/...; } >/dev/null 2>&1 & # fetches what comes next
	@$(e2e-flags) go build -C e2e -o $(CURDIR)/.cache/bin/demo ./cmd/demo
	@$(keep-here) .cache/bin/demo $(if $(DEMO_KEEP),--keep) $(if $(CLUSTER_KUBECONFIG),--kubeconfig $(CLUSTER_KUBECONFIG) --webhook-host $(WEBHOOK_HOST))

.PHONY: test
test: verify unit test-image e2e ## Everything: verify, unit, test-image and e2e

.PHONY: unit
unit: ## The main module's tests
	go test ./...

.PHONY: test-image
test-image: ## The image and what is released with it: made twice, opened, started, pushed to a registry of the test's own
	go test -C tools/release -count=1 -timeout 40m ./...

.PHONY: e2e
e2e: ## The program against a real apiserver, black box; the demo is one of the tests
	$(keep-here) $(e2e-flags) go test -C e2e -count=1 -timeout 40m ./...

.PHONY: e2e-istio
e2e-istio: ## The part of e2e that runs beside real Istios: 1.7.8, 1.26.0, the newest, an upgrade from first to last
	$(keep-here) $(e2e-flags) go test -C e2e -count=1 -timeout 40m ./tests/istio17 ./tests/istio126 ./tests/istiod ./tests/managed ./tests/mesh ./tests/meshes ./tests/upgrade

.PHONY: e2e-secrets
e2e-secrets: ## The part of e2e about Secrets: the rights that the chart gives, attacked; the copies, in 10,000 namespaces
	$(keep-here) $(e2e-flags) go test -C e2e -count=1 -timeout 40m ./tests/secrets
	$(keep-here) $(e2e-flags) go test -C e2e -count=1 -timeout 40m -v ./tests/distribute -args -namespaces=10000 -hold-rate -steps=200

.PHONY: reliability
reliability: ## Rotations, roll-outs and crashes while pods are created, in full: writes docs/reliability.md; over an hour
	$(keep-here) $(e2e-flags) go test -C e2e -count=1 -timeout 4h -v ./tests/certificate -args $(reliably) -page=$(CURDIR)/docs/reliability.md

.PHONY: e2e-install
e2e-install: test-image ## The part of e2e about the chart: the image, the account's rights, a release's life, kustomize, cert-manager, alerts, each command in docs/install.md and docs/operations.md
	$(keep-here) $(e2e-flags) go test -C e2e -count=1 -timeout 40m ./tests/install ./tests/certmanager ./tests/alerts ./tests/secrets

.PHONY: e2e-certmanager
e2e-certmanager: ## The part of e2e where cert-manager keeps the certificate, with 100 renewals
	$(keep-here) $(e2e-flags) go test -C e2e -count=1 -timeout 40m -v ./tests/certmanager -args -renewals=100

.PHONY: manifests
manifests: $(helm-docs) ## Write manifests/kustomize and the chart's README anew, from the chart
	$(describe)
	$(keep-here) $(e2e-flags) go test -C e2e -count=1 ./tests/install -run '^TestKustomize$$' -update

.PHONY: e2e-faults
e2e-faults: ## The part of e2e that brings about each row of docs/faults.md, the lease refused for a minute
	$(keep-here) $(e2e-flags) go test -C e2e -count=1 -timeout 40m -v ./tests/faults -args -refused=1m

.PHONY: attack
attack: ## Attack replicas as a tenant and as a stranger can, at full size: writes the figures of docs/attacks.md; over an hour
	$(keep-here) $(e2e-flags) go test -C e2e -count=1 -timeout 4h -v ./tests/attack -args -full -page=$(CURDIR)/docs/attacks.md

.PHONY: e2e-upgrade
e2e-upgrade: ## The part of e2e that upgrades from an earlier release, whose commit has to be in the clone, and rolls back
	$(keep-here) $(e2e-flags) go test -C e2e -count=1 -timeout 40m -v ./tests/release

.PHONY: race
race: ## The main module's tests under the race detector (needs a C compiler)
	@# The detector adds to allocations, and makes minutes of a comparison that has one goroutine.
	CGO_ENABLED=1 go test -race -skip '^(TestAllocations|TestUsualWayAgrees)$$' ./cmd/... ./webhook ./webhook/snapshot ./webhook/manifest ./webhook/missed ./certs/...
	CGO_ENABLED=1 go test -race ./webhook/inject -pods=20000

.PHONY: bench
bench: ## The webhook beside the floor and the usual way, and the decision beside one read of every byte
	go test -run '^$$' -bench . -benchmem ./webhook

.PHONY: fuzz
fuzz: ## Fuzz each target for $(fuzztime), then the properties over ten times as many pods
	go test -run '^$$' -fuzz '^FuzzReview$$' -fuzztime $(fuzztime) $(shrink) ./webhook
	go test -run '^$$' -fuzz '^FuzzProxyConfig$$' -fuzztime $(fuzztime) $(shrink) ./webhook/istio
	go test -run '^$$' -fuzz '^FuzzParse$$' -fuzztime $(fuzztime) $(shrink) ./webhook/settings
	go test -run '^$$' -fuzz '^FuzzStream$$' -fuzztime $(fuzztime) $(shrink) ./webhook/manifest
	go test -run '^$$' -fuzz '^FuzzBundle$$' -fuzztime $(fuzztime) $(shrink) ./certs/distribute
	go test -run '^TestProperties$$' -timeout 60m ./webhook/inject -pods 1000000
	go test -run '^$$' -fuzz '^FuzzText$$' -fuzztime $(fuzztime) $(shrink) ./internal/escape
	go test -run '^TestHostileText$$' -timeout 60m -v ./cmd/lightstep-injector -texts $(texts)

.PHONY: verify
verify: $(lint) $(helm-docs) ## Format, lint, modules, workflows, vulnerabilities; what is generated is checked by the tests
	@for m in $(modules); do echo "format $$m" && (cd $$m && $(lint) fmt --diff) || exit 1; done
	@for m in . e2e tools tools/release; do echo "lint $$m" && (cd $$m && $(lint) run) || exit 1; done # the others would compile Kubernetes and Istio again
	@for m in $(modules); do echo "go mod tidy $$m" && go -C $$m mod tidy -diff || exit 1; done
	@echo "helm-docs" && $(describe) --dry-run >.cache/README.md
	@diff .cache/README.md manifests/chart/lightstep-injector/README.md || { echo "the chart's values have changed: make manifests"; exit 1; }
	@! grep -n '|  |$$' manifests/chart/lightstep-injector/README.md || { echo "say what these values are for, in values.yaml: # -- ..."; exit 1; }
	go test -C tools/release -count=1 ./workflows # pins, permissions and what may run with them; Go's cache does not see these files
	go test -C tools -count=1 .
	@./tools/vulncheck

.PHONY: fmt
fmt: $(lint) ## Format
	@for m in $(modules); do (cd $$m && $(lint) fmt) || exit 1; done

$(lint): tools/go.mod tools/go.sum
	@echo "building golangci-lint, once"
	go build -C tools -o $@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint

$(helm-docs): tools/go.mod tools/go.sum
	@echo "building helm-docs, once"
	go build -C tools -o $@ github.com/norwoodj/helm-docs/cmd/helm-docs

.PHONY: clean
clean: ## Remove what was built here, the cached control plane included
	rm -rf bin .cache
