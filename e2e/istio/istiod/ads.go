package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	manager "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	v3 "istio.io/istio/pilot/pkg/xds/v3"
	"istio.io/istio/pkg/wellknown"
)

// received holds what istiod sent, by the type's short name.
type received map[string][]*anypb.Any

// stream is one of istiod's aggregated discovery service.
type stream struct {
	discovery.AggregatedDiscoveryService_StreamAggregatedResourcesClient
	node *core.Node
}

// ask asks in the order in which a proxy does: clusters and listeners, then what those refer to by name.
func ask(ctx context.Context, connected *grpc.ClientConn, node *core.Node) (received, error) {
	opened, err := discovery.NewAggregatedDiscoveryServiceClient(connected).StreamAggregatedResources(ctx)
	if err != nil {
		return nil, err
	}
	s := &stream{opened, node}
	all := received{}
	for _, q := range []question{
		{v3.ClusterType, nil},
		{v3.EndpointType, endpointNames},
		{v3.ListenerType, nil},
		{v3.RouteType, routeNames},
		{v3.ExtensionConfigurationType, extensionNames},
		{v3.NameTableType, nil},
	} {
		if err := s.answer(all, q); err != nil {
			return nil, fmt.Errorf("%s: %w", v3.GetShortType(q.kind), err)
		}
	}
	return all, s.CloseSend()
}

// question is one type, and, for those that are asked for by name, where the names are found in what has come.
type question struct {
	kind  string
	names func(received) ([]string, error)
}

func (s *stream) answer(all received, q question) error {
	var names []string
	if q.names != nil {
		found, err := q.names(all)
		if err != nil || len(found) == 0 {
			return err
		}
		names = found
	}
	if err := s.Send(&discovery.DiscoveryRequest{Node: s.node, TypeUrl: q.kind, ResourceNames: names}); err != nil {
		return err
	}
	response, err := s.next(q.kind)
	if err != nil {
		return err
	}
	all[v3.GetShortType(q.kind)] = response.GetResources()
	return s.Send(&discovery.DiscoveryRequest{
		TypeUrl: q.kind, ResourceNames: names, VersionInfo: response.GetVersionInfo(), ResponseNonce: response.GetNonce(),
	})
}

// next waits for an answer of a type; an update of another may come in between, and changes nothing here.
func (s *stream) next(kind string) (*discovery.DiscoveryResponse, error) {
	for {
		response, err := s.Recv()
		if err != nil || response.GetTypeUrl() == kind {
			return response, err
		}
	}
}

func endpointNames(all received) ([]string, error) {
	return namesIn(all[v3.GetShortType(v3.ClusterType)], func(c *cluster.Cluster, found map[string]bool) error {
		if c.GetType() == cluster.Cluster_EDS {
			found[c.GetName()] = true
		}
		return nil
	})
}

func routeNames(all received) ([]string, error) {
	return namesIn(all[v3.GetShortType(v3.ListenerType)], func(l *listener.Listener, found map[string]bool) error {
		return eachManager(l, func(m *manager.HttpConnectionManager) {
			if name := m.GetRds().GetRouteConfigName(); name != "" {
				found[name] = true
			}
		})
	})
}

func extensionNames(all received) ([]string, error) {
	return namesIn(all[v3.GetShortType(v3.ListenerType)], func(l *listener.Listener, found map[string]bool) error {
		return eachManager(l, func(m *manager.HttpConnectionManager) {
			for _, filter := range m.GetHttpFilters() {
				if filter.GetConfigDiscovery() != nil {
					found[filter.GetName()] = true
				}
			}
		})
	})
}

// namesIn collects names from resources of one type.
func namesIn[T any, P interface {
	*T
	proto.Message
}](resources []*anypb.Any, collect func(P, map[string]bool) error,
) ([]string, error) {
	found := map[string]bool{}
	for _, resource := range resources {
		message := P(new(T))
		if err := resource.UnmarshalTo(message); err != nil {
			return nil, err
		}
		if err := collect(message, found); err != nil {
			return nil, err
		}
	}
	return slices.Sorted(maps.Keys(found)), nil
}

func eachManager(l *listener.Listener, do func(*manager.HttpConnectionManager)) error {
	for _, chain := range append(l.GetFilterChains(), l.GetDefaultFilterChain()) {
		for _, filter := range chain.GetFilters() {
			if filter.GetName() != wellknown.HTTPConnectionManager {
				continue
			}
			m := &manager.HttpConnectionManager{}
			if err := filter.GetTypedConfig().UnmarshalTo(m); err != nil {
				return err
			}
			do(m)
		}
	}
	return nil
}

// print prints the node and every resource, with what is packed in it unpacked, as one JSON object.
func (r received) print(out io.Writer, node *core.Node) error {
	printed := map[string]any{}
	for kind, resources := range r {
		list := make([]json.RawMessage, len(resources))
		for i, resource := range resources {
			text, err := protojson.Marshal(resource)
			if err != nil {
				return fmt.Errorf("print a resource of %s: %w", kind, err)
			}
			list[i] = text
		}
		printed[kind] = list
	}
	text, err := protojson.Marshal(node)
	if err != nil {
		return fmt.Errorf("print the node: %w", err)
	}
	printed["node"] = json.RawMessage(text)
	return json.NewEncoder(out).Encode(printed)
}
