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
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
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
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}
