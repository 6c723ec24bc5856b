{{- define "matrixinfer.name" -}}
{{- default "matrixinfer" .Values.nameOverride -}}
{{- end -}}

{{- define "infer-gateway.fullname" -}}
{{- default "infer-gateway" .Values.fullnameOverride -}}
{{- end -}}

{{- define "infer-gateway.selector" -}}
app.kubernetes.io/name: infer-gateway
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "infer-gateway.labels" -}}
{{ include "infer-gateway.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{- define "infer-gateway.image" -}}
{{ .Values.image.repository }}{{ with .Values.image.digest }}@{{ . }}{{ else }}:{{ default .Chart.AppVersion .Values.image.tag }}{{ end }}
{{- end -}}

{{- define "infer-gateway.envoyImage" -}}
{{ .Values.envoy.image.repository }}{{ with .Values.envoy.image.digest }}@{{ . }}{{ else }}:{{ .Values.envoy.image.tag }}{{ end }}
{{- end -}}

{{- define "infer-gateway.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "infer-gateway.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- required "serviceAccount.name: the ServiceAccount to use, where create is false" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* Namespaces whose pods the configuration watches, each once, as JSON. */}}
{{- define "infer-gateway.watchedNamespaces" -}}
{{- $found := list -}}
{{- $sections := list (default dict .Values.gateway.endpoints) -}}
{{- range $name, $pool := (default dict .Values.gateway.pools) -}}
{{- $sections = append $sections $pool -}}
{{- end -}}
{{- range $section := $sections -}}
{{- with $section.kubernetes -}}
{{- $found = append $found (default $.Release.Namespace .namespace) -}}
{{- end -}}
{{- end -}}
{{- $found | uniq | toJson -}}
{{- end -}}

{{/* "true" where the pod needs the API server: `rbac.create`, or what the configuration watches. */}}
{{- define "infer-gateway.rbac" -}}
{{- if kindIs "bool" .Values.rbac.create -}}
{{- if .Values.rbac.create }}true{{ end -}}
{{- else if include "infer-gateway.watchedNamespaces" . | fromJsonArray -}}
true
{{- end -}}
{{- end -}}

{{- define "infer-gateway.adminPort" -}}
{{ dig "admin" "port" 9090 .Values.gateway }}
{{- end -}}

{{- define "infer-gateway.listenerPort" -}}
{{ dig "listener" "port" 8080 .Values.gateway }}
{{- end -}}

{{- define "infer-gateway.adminSocket" -}}
{{ dig "envoy" "adminSocket" "/var/run/infer-gateway/envoy-admin.sock" .Values.gateway }}
{{- end -}}

{{/* The gateway's configuration, with what `sharing` adds. */}}
{{- define "infer-gateway.configuration" -}}
{{- $gateway := deepCopy .Values.gateway -}}
{{- if .Values.sharing.enabled -}}
{{- $own := dict "redis" .Values.sharing.redis "secretFile" (printf "%s/secret" (include "infer-gateway.sharingFolder" .)) -}}
{{- $_ := set $gateway "sharing" (mergeOverwrite $own (default dict $gateway.sharing)) -}}
{{- end -}}
{{- toYaml $gateway -}}
{{- end -}}

{{- define "infer-gateway.sharingFolder" -}}
/etc/infer-gateway/sharing
{{- end -}}

{{- define "infer-gateway.containerSecurity" -}}
{{ toYaml .Values.containerSecurityContext }}
{{- end -}}
