{{/* Copies: looked at one by one, applied, deleted once no running pod needs them, and spoken of in Events. */}}
{{- define "lightstep-injector.distributionRules" -}}
- apiGroups: [""]
  resources: [secrets]
  resourceNames: {{ toJson .copies }}
  verbs: [create, delete, get, patch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end -}}

{{/* In the injector's own namespace: the lease by which one replica leads, the sources, the certificate, and the Deployment,
     which owns what is made here. */}}
{{- define "lightstep-injector.ownRules" -}}
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [create]
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  resourceNames: [lightstep-injector]
  verbs: [get, update]
- apiGroups: [apps]
  resources: [deployments]
  resourceNames: [lightstep-injector]
  verbs: [get]
{{- if .model.distribution }}
- apiGroups: [""]
  resources: [secrets]
  resourceNames: {{ toJson .model.sources }}
  verbs: [list, watch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}
- apiGroups: [""]
  resources: [secrets]
  resourceNames: {{ list .secret | toJson }}
  verbs: {{ ternary "[create, get, list, patch, watch]" "[list, watch]" .selfManaged }}
{{- with .clientCA }}
- apiGroups: [""]
  resources: [secrets]
  resourceNames: {{ list . | toJson }}
  verbs: [list, watch]
{{- end }}
{{- end -}}

{{/* In Istio's namespaces: its ConfigMaps, whose names hold revisions, which no selector knows. */}}
{{- define "lightstep-injector.istioRules" -}}
- apiGroups: [""]
  resources: [configmaps]
  verbs: [list, watch]
{{- end -}}

{{/* A Role and its binding: root, namespace, name, rules. */}}
{{- define "lightstep-injector.role" -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: {{ .name }}
  namespace: {{ .namespace }}
  labels:
    {{- include "lightstep-injector.labels" .root | nindent 4 }}
rules:
{{ .rules }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: {{ .name }}
  namespace: {{ .namespace }}
  labels:
    {{- include "lightstep-injector.labels" .root | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: Role
  name: {{ .name }}
subjects:
- {{- include "lightstep-injector.subject" .root | nindent 2 }}
{{- end -}}
