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

{{/* What every pod that runs the image has in its spec: who it is, where it may run, its configuration. */}}
{{- define "lightstep-injector.podSpec" -}}
serviceAccountName: {{ .Values.serviceAccount.name }}
automountServiceAccountToken: true
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  seccompProfile: {type: RuntimeDefault}
volumes:
- name: config
  configMap: {name: lightstep-injector}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* And in its container. */}}
{{- define "lightstep-injector.containerSpec" -}}
image: {{ include "lightstep-injector.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- with .Values.resources }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
volumeMounts:
- {name: config, mountPath: /etc/lightstep-injector/config, readOnly: true}
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

{{- define "lightstep-injector.configFlag" -}}
--config=/etc/lightstep-injector/config/config.yaml
{{- end -}}

{{/* The arguments of serve. */}}
{{- define "lightstep-injector.arguments" -}}
- serve
- {{ include "lightstep-injector.configFlag" . }}
- --listen=:{{ .Values.ports.webhook }}
- --metrics-listen=:{{ .Values.ports.metrics }}
- --health-listen=:{{ .Values.ports.health }}
- --log-level={{ .Values.logLevel }}
{{- if (.Values.metrics).auth }}
- --metrics-auth
{{- end }}
- --tls-secret={{ .Values.certificate.secretName }}
{{- if eq (include "lightstep-injector.selfManaged" .) "true" }}
- --self-signed
{{- end }}
{{- with .Values.webhook }}
{{- $secret := (.clientCA).secretName }}
{{- if and $secret (not .clientNames) }}{{ fail (printf "webhook.clientNames: is empty, and webhook.clientCA.secretName is %q: every certificate of that CA would pass, such as a kubelet's; list the names in the API server's client certificate" $secret) }}{{ end }}
{{- if and .clientNames (not $secret) }}{{ fail (printf "webhook.clientCA.secretName: is empty, and webhook.clientNames is %s: name the Secret with the CA of these certificates, or remove webhook.clientNames" (toJson .clientNames)) }}{{ end }}
{{- with $secret }}
- --client-ca-secret={{ . }}:{{ $.Values.webhook.clientCA.key | default "ca.crt" }}
{{- end }}
{{- range .clientNames }}
- {{ printf "--client-name=%s" . | quote }}
{{- end }}
{{- end }}
{{- end -}}
