{{- define "zto.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 53 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 53 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- define "zto.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "zto.labels" -}}
{{ include "zto.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{- define "zto.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end }}

{{- /* What a shutdown may take: draining, finishing, and the second or two of each step between. */ -}}
{{- define "zto.graceSeconds" -}}
{{- with .Values.shutdown -}}
{{- add (ceil .drainSeconds) .finishSeconds 5 -}}
{{- end -}}
{{- end }}

{{- define "zto.keysSecret" -}}
{{- .Values.access.secret | default (printf "%s-keys" (include "zto.name" .)) -}}
{{- end }}

{{- define "zto.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- /* What no schema can say: values that have to fit each other. */ -}}
{{- define "zto.check" -}}
{{- with .Values.access -}}
{{- if not (or .secret .keys .anonymous) -}}
{{- fail "choose who may ask: access.secret or access.keys with API keys, or access.anonymous=true" -}}
{{- end -}}
{{- if gt (len (compact (list .secret .keys (ternary "anonymous" "" .anonymous)))) 1 -}}
{{- fail "access.secret, access.keys and access.anonymous exclude each other" -}}
{{- end -}}
{{- end -}}
{{- with .Values.autoscaling -}}
{{- if gt (int .minReplicas) (int .maxReplicas) -}}
{{- fail (printf "autoscaling.minReplicas (%d) is more than maxReplicas (%d)" (int .minReplicas) (int .maxReplicas)) -}}
{{- end -}}
{{- end -}}
{{- with .Values.ports -}}
{{- if ne (len (uniq (list (int .http) (int .admin) (int .grpc)))) 3 -}}
{{- fail "ports.http, ports.admin and ports.grpc must differ" -}}
{{- end -}}
{{- end -}}
{{- with .Values.serviceMonitor -}}
{{- if and .enabled (not $.Values.access.anonymous) (not .key.secret) -}}
{{- fail "serviceMonitor.key.secret is missing: with access.secret or access.keys, Prometheus needs a key too" -}}
{{- end -}}
{{- end -}}
{{- range $name, $_ := fromYaml (include "zto.labels" .) -}}
{{- if hasKey $.Values.podLabels $name -}}
{{- fail (printf "podLabels.%s belongs to the chart, which finds its pods by such labels" $name) -}}
{{- end -}}
{{- end -}}
{{- $own := dict "ZTO_HOST" "" "ZTO_ADMIN_HOST" "" "ZTO_STATE_DIR" "" -}}
{{- $own = merge $own (dict "ZTO_PORT" "ports.http" "ZTO_GRPC_PORT" "ports.grpc" "ZTO_ADMIN_PORT" "ports.admin") -}}
{{- $own = merge $own (dict "ZTO_DRAIN_S" "shutdown.drainSeconds" "ZTO_SHUTDOWN_S" "shutdown.finishSeconds") -}}
{{- $own = merge $own (dict "ZTO_MODELS_DIR" "models.source" "ZTO_ALLOW_ANONYMOUS" "access.anonymous") -}}
{{- $own = merge $own (dict "ZTO_API_KEYS_FILE" "access.secret" "ZTO_ADMIN_KEY" "access.secret") -}}
{{- $own = merge $own (dict "ZTO_TLS_CERT" "ingress.tlsSecret" "ZTO_TLS_KEY" "ingress.tlsSecret") -}}
{{- $own = merge $own (dict "ZTO_SIGNING_KEY" "models.signingKey.configMap") -}}
{{- range $name, $_ := .Values.settings -}}
{{- if hasKey $own $name -}}
{{- $value := get $own $name -}}
{{- fail (printf "settings.%s belongs to the chart%s" $name (ternary (printf ": set %s" $value) "" (ne $value ""))) -}}
{{- end -}}
{{- end -}}
{{- end }}
