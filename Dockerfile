# What the image holds, and how it is compiled. Two readers keep to it: a container engine, and tools/release, which knows
# these instructions alone and needs no engine. docs/release.md says how to build with either.
# `make pins` writes the digest: of an image index, so that it holds for each platform that builds.
FROM --platform=$BUILDPLATFORM golang:1.26.8@sha256:9d2f36f06329b2a141b9db99ffa32765cf695ee57b813ca29e245e8670bcbfff AS compile
ARG TARGETOS
ARG TARGETARCH
ENV CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH
WORKDIR /src
# With .git: the version and the commit that the program tells are those that Go finds there.
COPY . .
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    ["/usr/local/go/bin/go", "build", "-trimpath", "-buildvcs=true", "-ldflags=-s -w", "-o", "/out/lightstep-injector", "./cmd/lightstep-injector"]

# The program and nothing else: it trusts the API server's CA, which its account or its kubeconfig brings, and no other.
FROM scratch
ARG VERSION
ARG REVISION
ARG CREATED
LABEL org.opencontainers.image.title="lightstep-injector" \
      org.opencontainers.image.description="Label a namespace, and every pod created in it is set up to report its spans over TLS to your own CA" \
      org.opencontainers.image.source="https://github.com/lightstep-injector/lightstep-injector" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.created="$CREATED"
COPY --from=compile --chmod=0755 /out/lightstep-injector /lightstep-injector
USER 65532:65532
ENTRYPOINT ["/lightstep-injector"]
