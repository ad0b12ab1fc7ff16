{{- define "shoppable.name" -}}
{{- printf "%s-%s" .root.Release.Name .service | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "shoppable.selector" -}}
app.kubernetes.io/name: shoppable
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .service }}
{{- end -}}

{{- define "shoppable.labels" -}}
{{ include "shoppable.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end -}}

{{- define "shoppable.image" -}}
{{- printf "%s/shoppable-%s:%s" .root.Values.image.registry .service (.root.Values.image.tag | default .root.Chart.AppVersion) -}}
{{- end -}}

{{- define "shoppable.endpoint" -}}
{{- printf "dns:///%s.%s.svc:%v" (include "shoppable.name" .) .root.Release.Namespace .port -}}
{{- end -}}

{{- define "shoppable.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "shoppable.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ . }}
runAsGroup: {{ . }}
fsGroup: {{ . }}
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "shoppable.spread" -}}
- maxSkew: 1
  topologyKey: topology.kubernetes.io/zone
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels: {{- include "shoppable.selector" . | nindent 6 }}
- maxSkew: 1
  topologyKey: kubernetes.io/hostname
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels: {{- include "shoppable.selector" . | nindent 6 }}
{{- end -}}

{{- define "shoppable.qdrantEndpoint" -}}
{{- if .Values.qdrantEndpoint -}}
{{- .Values.qdrantEndpoint -}}
{{- else if .Values.qdrant.enabled -}}
{{- printf "%s-qdrant.%s.svc:6334" .Release.Name .Release.Namespace -}}
{{- else -}}
{{- fail "with qdrant.enabled=false, qdrantEndpoint must name a Qdrant server's gRPC address" -}}
{{- end -}}
{{- end -}}

{{- define "shoppable.qdrantKeySecret" -}}
{{- .Values.qdrantApiKeySecret.name | default (printf "%s-qdrant-apikey" .Release.Name) -}}
{{- end -}}

{{- define "shoppable.tritonKeySecret" -}}
{{- .Values.triton.adminKeySecret | default (printf "%s-triton-admin" .Release.Name) -}}
{{- end -}}

{{- /* Settings that come from the chart's own values. */ -}}
{{- define "shoppable.env" -}}
{{- $values := .root.Values -}}
SHOPPABLE_PORT: {{ .settings.port | quote }}
SHOPPABLE_SHUTDOWN_DELAY_S: {{ .settings.shutdownDelayS | quote }}
SHOPPABLE_SHUTDOWN_GRACE_S: {{ .settings.shutdownGraceS | quote }}
SHOPPABLE_MAX_CONNECTION_AGE_S: {{ .settings.maxConnectionAgeS | quote }}
{{- if $values.otlpEndpoint }}
SHOPPABLE_OTLP_ENDPOINT: {{ $values.otlpEndpoint | quote }}
{{- end }}
{{- if $values.allowInsecure }}
SHOPPABLE_ALLOW_INSECURE: "true"
{{- end }}
{{- if $values.tls.enabled }}
SHOPPABLE_TLS_CERTIFICATE_FILE: /etc/shoppable/tls/tls.crt
SHOPPABLE_TLS_KEY_FILE: /etc/shoppable/tls/tls.key
{{- if .settings.mutualTls }}
SHOPPABLE_TLS_CLIENT_CA_FILE: /etc/shoppable/tls/ca.crt
{{- end }}
{{- if ne .service "decoder" }}
SHOPPABLE_PEER_CA_FILE: /etc/shoppable/tls/ca.crt
SHOPPABLE_PEER_CERTIFICATE_FILE: /etc/shoppable/tls/tls.crt
SHOPPABLE_PEER_KEY_FILE: /etc/shoppable/tls/tls.key
{{- end }}
{{- end }}
{{- if $values.auth.enabled }}
SHOPPABLE_AUTH_CALLERS_FILE: /etc/shoppable/callers/callers.toml
{{- with $values.auth.jwt }}
{{- if and .keysUrl (not $.settings.mutualTls) }}
SHOPPABLE_AUTH_JWT_KEYS_URL: {{ .keysUrl | quote }}
SHOPPABLE_AUTH_JWT_ISSUER: {{ required "auth.jwt.issuer must be set with auth.jwt.keysUrl" .issuer | quote }}
SHOPPABLE_AUTH_JWT_AUDIENCE: {{ required "auth.jwt.audience must be set with auth.jwt.keysUrl" .audience | quote }}
{{- end }}
{{- end }}
{{- if eq .service "orchestrator" }}
SHOPPABLE_PEER_API_KEY_FILE: /etc/shoppable/service-key/service.key
{{- end }}
{{- end }}
{{- if eq .service "orchestrator" }}
{{- range $name := list "decoder" "detector" "matcher" }}
SHOPPABLE_ORCHESTRATOR_{{ upper $name }}_ENDPOINT: {{ include "shoppable.endpoint" (dict "root" $.root "service" $name "port" (index $values.services $name).port) }}
{{- end }}
SHOPPABLE_ORCHESTRATOR_TRITON_ENDPOINT: {{ include "shoppable.endpoint" (dict "root" $.root "service" "triton" "port" 8001) }}
{{- else if eq .service "detector" }}
SHOPPABLE_DETECTOR_TRITON_ENDPOINT: {{ include "shoppable.endpoint" (dict "root" $.root "service" "triton" "port" 8001) }}
{{- else if eq .service "matcher" }}
SHOPPABLE_MATCHER_TRITON_ENDPOINT: {{ include "shoppable.endpoint" (dict "root" $.root "service" "triton" "port" 8001) }}
SHOPPABLE_MATCHER_INDEX: server
SHOPPABLE_MATCHER_QDRANT_ENDPOINT: {{ include "shoppable.qdrantEndpoint" $.root }}
{{- if $values.tls.enabled }}
SHOPPABLE_MATCHER_QDRANT_TLS: "true"
# Qdrant's client trusts gRPC's own roots: these.
GRPC_DEFAULT_SSL_ROOTS_FILE_PATH: /etc/shoppable/tls/ca.crt
{{- end }}
{{- else if $values.videos }}
SHOPPABLE_DECODER_FILE_ROOTS: /videos
{{- end }}
{{- end -}}
