{{/* Puts a policy into force, everywhere: root, name. */}}
{{- define "lightstep-injector.policyBinding" -}}
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata:
  name: {{ .name }}
  labels:
    {{- include "lightstep-injector.labels" .root | nindent 4 }}
spec:
  policyName: {{ .name }}
  validationActions: [Deny]
{{- end -}}

{{/* What every policy begins with, down to its matchConstraints: root, name. */}}
{{- define "lightstep-injector.policyHead" -}}
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata:
  name: {{ .name }}
  labels:
    {{- include "lightstep-injector.labels" .root | nindent 4 }}
spec:
  failurePolicy: Fail
  matchConditions:
  - name: by-the-injector
    expression: request.userInfo.username == {{ include "lightstep-injector.username" .root | toJson }}
{{- end -}}

{{/* The reasons of the injector's Events. An Event of any other reason is rejected, so a reason that is new in the program
     is added here, too. cmd/lightstep-injector/contract_test.go compares the two. */}}
{{- define "lightstep-injector.eventReasons" -}}
- BadCertificate
- ConflictObject
- CopyRestored
- Expired
- ExpiresIn1Days
- ExpiresIn30Days
- ExpiresIn7Days
- ExtraContent
- ForeignObject
- ForeignSecret
- HasPrivateKey
- KeyMissing
- NoCACertificate
- NotPEM
- NotYetValid
- ObjectUnreadable
- SourceMissing
- TokenNotClean
- TooLarge
{{- end -}}

{{/* The kinds of the objects that these Events are about. */}}
{{- define "lightstep-injector.eventKinds" -}}
- DestinationRule
- Secret
- ServiceEntry
- Telemetry
{{- end -}}

{{/* A regular expression of the namespaces that the injector never writes to: the built-in ones, exemptNamespaces, and those
     that are given as a list. Of a glob, * and ? and [...] are translated. */}}
{{- define "lightstep-injector.exempt" -}}
{{- $patterns := list -}}
{{- range concat (list "kube-system" "kube-public" "kube-node-lease" "local-path-storage") (.config.exemptNamespaces | default list) .more | uniq -}}
{{-   $pattern := regexQuoteMeta . | replace "\\*" ".*" | replace "\\?" "." | replace "\\[" "[" | replace "\\]" "]" | replace "\\^" "^" -}}
{{-   $patterns = append $patterns $pattern -}}
{{- end -}}
^({{ join "|" $patterns }})$
{{- end -}}

{{/* Variables of a policy: the metadata that a request writes, and what it was before, each empty where there is none. */}}
{{- define "lightstep-injector.metadataVariables" -}}
- name: meta
  expression: 'request.operation == "DELETE" ? dyn({}) : dyn(object.metadata)'
- name: metaBefore
  expression: 'request.operation == "CREATE" ? dyn({}) : dyn(oldObject.metadata)'
- name: labels
  expression: variables.meta.?labels.orValue({})
- name: labelsBefore
  expression: variables.metaBefore.?labels.orValue({})
- name: annotations
  expression: variables.meta.?annotations.orValue({})
- name: annotationsBefore
  expression: variables.metaBefore.?annotations.orValue({})
{{- end -}}

{{/* Validations by which an object that the account writes gets no labels and annotations but its own, keeps those of others,
     and gets neither finalizers nor owners: labels and annotations are CEL expressions of a key k that may be written,
     labelKeys and annotationKeys those that may be removed, owners one that allows owners of a new object. */}}
{{- define "lightstep-injector.metadataValidations" -}}
- expression: >-
    request.operation == "DELETE" || variables.meta.?finalizers.orValue([]) == variables.metaBefore.?finalizers.orValue([])
  message: finalizers may not be written
  reason: Forbidden
- expression: >-
    request.operation == "DELETE" || variables.meta.?ownerReferences.orValue([]) == variables.metaBefore.?ownerReferences.orValue([])
    {{- with .owners }} ||
    request.operation == "CREATE" && {{ . }}
    {{- end }}
  message: ownerReferences may not be written
  reason: Forbidden
- expression: >-
    request.operation == "DELETE" || {{ include "lightstep-injector.changesOnly" (dict "now" "variables.labels" "before" "variables.labelsBefore" "may" .labels "keys" .labelKeys) }}
  message: only the injector's own labels may be written
  reason: Forbidden
- expression: >-
    request.operation == "DELETE" || {{ include "lightstep-injector.changesOnly" (dict "now" "variables.annotations" "before" "variables.annotationsBefore" "may" .annotations "keys" .annotationKeys) }}
  message: only the injector's own annotations may be written
  reason: Forbidden
{{- end -}}

{{/* A CEL expression that is true where a map has changed only as it may: now, before, and, of a key k, what may be written (may)
     and which may be removed (keys, a list). */}}
{{- define "lightstep-injector.changesOnly" -}}
{{ .now }}.all(k, {{ .may }} || k in {{ .before }} && {{ .before }}[k] == {{ .now }}[k]) && {{ .before }}.all(k, k in {{ toJson .keys }} || k in {{ .now }})
{{- end -}}

{{/* The one owner that an object of the injector's may have: its Deployment, with whose end the object goes. */}}
{{- define "lightstep-injector.ownedByDeployment" -}}
variables.meta.?ownerReferences.orValue([]).all(o, o.apiVersion == "apps/v1" && o.kind == "Deployment" && o.name == "lightstep-injector" && !o.?controller.orValue(false) && !o.?blockOwnerDeletion.orValue(false)) && variables.meta.ownerReferences.size() == 1
{{- end -}}
