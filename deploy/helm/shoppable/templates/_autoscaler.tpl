{{- define "shoppable.autoscaler" }}
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: {{ include "shoppable.name" . }}
  labels: {{- include "shoppable.labels" . | nindent 4 }}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: {{ include "shoppable.name" . }}}
  minReplicas: {{ .settings.autoscaling.minReplicas }}
  maxReplicas: {{ .settings.autoscaling.maxReplicas }}
  metrics:
    {{- range .settings.autoscaling.metrics }}
    {{- if eq .kind "cpu" }}
    - type: Resource
      resource: {name: cpu, target: {type: Utilization, averageUtilization: {{ .average }}}}
    {{- else if eq .kind "pods" }}
    - type: Pods
      pods: {metric: {name: {{ .name }}}, target: {type: AverageValue, averageValue: {{ .average | quote }}}}
    {{- else }}
    {{- fail (printf "autoscaling.metrics: kind must be cpu or pods, and is %s" .kind) }}
    {{- end }}
    {{- end }}
  behavior:
    # Up at once; down slowly, since streams stay where they began.
    scaleUp: {stabilizationWindowSeconds: 0, policies: [{type: Percent, value: 100, periodSeconds: 30}]}
    scaleDown: {stabilizationWindowSeconds: 600, policies: [{type: Pods, value: 1, periodSeconds: 120}]}
{{- end }}
