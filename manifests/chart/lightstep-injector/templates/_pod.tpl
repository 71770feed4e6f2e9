{{/* What the Deployment selects, and all that stands for its pods. It never changes. */}}
{{- define "lightstep-injector.selector" -}}
app.kubernetes.io/name: lightstep-injector
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* The image, by its digest where one is given. */}}
{{- define "lightstep-injector.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end -}}
{{- end -}}

{{/* Over nodes: the replicas of one roll-out among themselves. */}}
{{- define "lightstep-injector.spread" -}}
- topologyKey: kubernetes.io/hostname
  maxSkew: 1
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels:
      {{- include "lightstep-injector.selector" . | nindent 6 }}
  matchLabelKeys: [pod-template-hash]
{{- end -}}

{{/* Over zones, where there are any. A second constraint would not do: of nodes that lack one constraint's label the
     scheduler heeds no other, and so would put all replicas on one node wherever there are no zones. */}}
{{- define "lightstep-injector.affinity" -}}
podAntiAffinity:
  preferredDuringSchedulingIgnoredDuringExecution:
  - weight: 100
    podAffinityTerm:
      topologyKey: topology.kubernetes.io/zone
      labelSelector:
        matchLabels:
          {{- include "lightstep-injector.selector" . | nindent 10 }}
{{- end -}}

{{/* The arguments of serve. */}}
{{- define "lightstep-injector.arguments" -}}
- serve
- --config=/etc/lightstep-injector/config/config.yaml
- --listen=:{{ .Values.ports.webhook }}
- --metrics-listen=:{{ .Values.ports.metrics }}
- --health-listen=:{{ .Values.ports.health }}
- --log-level={{ .Values.logLevel }}
- --tls-secret={{ .Values.certificate.secretName }}
{{- if eq (include "lightstep-injector.selfManaged" .) "true" }}
- --self-signed
{{- end }}
{{- end -}}
