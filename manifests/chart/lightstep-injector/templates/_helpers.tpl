{{- define "lightstep-injector.labels" -}}
app.kubernetes.io/name: lightstep-injector
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{/* The account, as the subject of a binding. */}}
{{- define "lightstep-injector.subject" -}}
kind: ServiceAccount
name: {{ .Values.serviceAccount.name }}
namespace: {{ .Release.Namespace }}
{{- end -}}

{{/* The account, as the API server names it. */}}
{{- define "lightstep-injector.username" -}}
system:serviceaccount:{{ .Release.Namespace }}:{{ .Values.serviceAccount.name }}
{{- end -}}

{{/* "true" where the cluster has ValidatingAdmissionPolicy v1. A list of APIs with kinds in it is that of a cluster, and is
     believed; without a cluster (helm template) it has none, and the version decides. */}}
{{- define "lightstep-injector.policies" -}}
{{- $kind := "admissionregistration.k8s.io/v1/ValidatingAdmissionPolicy" -}}
{{- $listed := .Capabilities.APIVersions.Has "v1/Secret" -}}
{{- if or (.Capabilities.APIVersions.Has $kind) (and (not $listed) (semverCompare ">=1.30-0" .Capabilities.KubeVersion.Version)) -}}
true
{{- end -}}
{{- end -}}

{{/* "true" where the injector writes its own certificate: what it may write then takes policies to fence. */}}
{{- define "lightstep-injector.selfManaged" -}}
{{- and (eq .Values.certificate.mode "selfManaged") (eq (include "lightstep-injector.policies" .) "true") -}}
{{- end -}}

{{/* values.config as a map, as YAML. */}}
{{- define "lightstep-injector.written" -}}
{{- $config := .Values.config -}}
{{- if kindIs "string" $config -}}
{{-   $config = fromYaml $config -}}
{{-   with $config.Error }}{{ fail (printf "config is not YAML: %s" .) }}{{ end -}}
{{- end -}}
{{- toYaml $config -}}
{{- end -}}

{{/* What the templates go by, as YAML:

     config         the injector's configuration
     secrets        the Secrets that pods are given, by name, whoever puts them there
     copies         those of them that are copied, because there is a source
     sources        the Secrets that they are copied from
     distribution   cluster: into any labelled namespace; listed: into those of distribution.namespaces; empty: not at all
     policies       whether the cluster has ValidatingAdmissionPolicy
     keys           the data keys of each copy, by its name
     manage         whether the injector keeps Istio's objects: istio.manage, where a policy limits what it writes
     provider       the name of these objects
     endpoints      each satellite, as "HOST PORT"
     tls            how proxies open TLS to each satellite: ca, the file of the satellite CA; sni; name, in its certificate

     Defaults are those of webhook/settings, where absent and null are different things: without caCertificate a profile
     has the default one, with its source; with null it has none. */}}
{{- define "lightstep-injector.model" -}}
{{- $config := include "lightstep-injector.written" . | fromYaml -}}
{{- $policies := eq (include "lightstep-injector.policies" .) "true" -}}
{{- $distribution := ternary "cluster" "" $policies -}}
{{- if .Values.distribution.namespaces }}{{ $distribution = "listed" }}{{ end -}}
{{- $profiles := get $config "profiles" | default (dict "default" dict) -}}
{{- $secrets := list -}}
{{- $copies := list -}}
{{- $sources := list -}}
{{- $keys := dict -}}
{{- $endpoints := list -}}
{{- $tls := list -}}
{{- range $name, $profile := $profiles -}}
{{-   $ca := ternary $profile.caCertificate dict (hasKey $profile "caCertificate") -}}
{{-   if not (kindIs "invalid" $ca) -}}
{{-     $secret := $ca.secretName | default "lightstep.cacert" -}}
{{-     $secrets = append $secrets $secret -}}
{{-     $source := ternary $ca.source dict (hasKey $ca "source") -}}
{{-     if and $distribution (not (kindIs "invalid" $source)) -}}
{{-       $copies = append $copies $secret -}}
{{-       $sources = append $sources ($source.name | default "lightstep.cacert") -}}
{{-       $_ := set $keys $secret (append (get $keys $secret | default list) ($ca.key | default "cacert.pem") | uniq | sortAlpha) -}}
{{-     end -}}
{{-     if not $distribution }}{{ $_ := set $profile "caCertificate" (set $ca "source" nil) }}{{ end -}}
{{-   end -}}
{{-   $token := $profile.accessToken | default dict -}}
{{-   $secret := $token.secretName | default "lightstep-access-token" -}}
{{-   $secrets = append $secrets $secret -}}
{{-   if and $distribution $token.source -}}
{{-     $copies = append $copies $secret -}}
{{-     $_ := set $keys $secret (append (get $keys $secret | default list) ($token.key | default "token") | uniq | sortAlpha) -}}
{{-     $sources = append $sources (required (printf "config: profiles.%s.accessToken.source.name is missing" $name) $token.source.name) -}}
{{-   end -}}
{{-   if $token.source }}{{ if not $distribution }}{{ $_ := set $token "source" nil }}{{ end }}{{ end -}}
{{-   $satellite := $profile.satellite | default dict -}}
{{-   if $satellite.address -}}
{{-     $host := regexReplaceAll "^\\[?(.*?)\\]?:[0-9]+$" $satellite.address "${1}" -}}
{{-     $endpoints = append $endpoints (printf "%s %s" $host (regexFind "[0-9]+$" $satellite.address)) -}}
{{-     $address := regexMatch "^([0-9]{1,3}[.]){3}[0-9]{1,3}$|:" $host -}}
{{-     $name := $satellite.serverName | default $host -}}
{{-     $rule := dict "name" $name "sni" (ternary "" $name (and $address (not $satellite.serverName))) "ca" "system" -}}
{{-     if not (kindIs "invalid" $ca) }}{{ $_ := set $rule "ca" (clean (printf "%s/%s" ($ca.mountPath | default "/etc/lightstep") ($ca.key | default "cacert.pem"))) }}{{ end -}}
{{-     if ne (toString $satellite.secure) "false" }}{{ $tls = append $tls $rule }}{{ end -}}
{{-   end -}}
{{- end -}}
{{- if not $distribution }}{{ $_ := set $config "profiles" $profiles }}{{ end -}}
{{- $istio := get $config "istio" | default dict -}}
{{- if and $istio.manage (not $policies) }}{{ $_ := set $config "istio" (set $istio "manage" false) }}{{ end -}}
{{- $head := dict "apiVersion" "injector.lightstep.com/v1alpha1" "kind" "InjectorConfiguration" -}}
{{- toYaml (dict
      "config" (merge $config $head)
      "secrets" ($secrets | uniq | sortAlpha)
      "copies" ($copies | uniq | sortAlpha)
      "sources" ($sources | uniq | sortAlpha)
      "distribution" (ternary $distribution "" (gt (len $copies) 0))
      "policies" $policies
      "keys" $keys
      "manage" ($istio.manage | default false)
      "provider" ($istio.provider | default "lightstep")
      "endpoints" ($endpoints | uniq)
      "tls" ($tls | uniq)) -}}
{{- end -}}

{{/* Where Istio's ConfigMaps may be read, as a list in YAML. A Role needs its namespace: so the default one counts only
     where the cluster has Istio's kinds. */}}
{{- define "lightstep-injector.istioNamespaces" -}}
{{- $istio := get (include "lightstep-injector.written" . | fromYaml) "istio" | default dict -}}
{{- if hasKey $istio "namespaces" -}}
{{-   toYaml $istio.namespaces -}}
{{- else if .Capabilities.APIVersions.Has "networking.istio.io/v1beta1" -}}
- istio-system
{{- else -}}
[]
{{- end -}}
{{- end -}}
