{{- /* The settings of a node. A pod's name is stable, so it is the node's name. */ -}}
{{- define "callchain.env" -}}
- name: CALLCHAIN_NODE_ID
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- {name: CALLCHAIN_DATA_DIR, value: /var/lib/callchain/data}
- {name: CALLCHAIN_HTTP_ADDR, value: "0.0.0.0:8080"}
- {name: CALLCHAIN_MQTT_ADDR, value: "0.0.0.0:1883"}
- {name: CALLCHAIN_COAP_ADDR, value: {{ ternary "0.0.0.0:5683" "" .Values.service.coap.enabled | quote }}}
- {name: CALLCHAIN_PARTITIONS, value: {{ .Values.partitions | quote }}}
- {name: CALLCHAIN_LOG_LEVEL, value: {{ .Values.log.level }}}
- {name: CALLCHAIN_LOG_FORMAT, value: {{ .Values.log.format }}}
- {name: CALLCHAIN_ADMIN_EMAIL, value: {{ .Values.admin.email | quote }}}
{{- range $name, $key := dict "CALLCHAIN_STORE_URL" .Values.secret.storeURL "CALLCHAIN_AUTH_KEY" .Values.secret.authKey "CALLCHAIN_ADMIN_PASSWORD" .Values.secret.adminPassword }}
- name: {{ $name }}
  valueFrom: {secretKeyRef: {name: {{ include "callchain.secret" $ }}, key: {{ $key }}}}
{{- end }}
- {name: CALLCHAIN_BUS_KAFKA_BROKERS, value: {{ required "kafka.brokers: name the brokers, host:port and more of them with commas" .Values.kafka.brokers | quote }}}
- {name: CALLCHAIN_BUS_KAFKA_PREFIX, value: {{ .Values.kafka.prefix | quote }}}
- {name: CALLCHAIN_BUS_KAFKA_REPLICATION, value: {{ .Values.kafka.replication | quote }}}
{{- if ne .Values.kafka.sasl.mechanism "none" }}
- {name: CALLCHAIN_BUS_KAFKA_SASL_MECHANISM, value: {{ .Values.kafka.sasl.mechanism }}}
- {name: CALLCHAIN_BUS_KAFKA_SASL_USER, value: {{ required "kafka.sasl.user: name the user at the brokers" .Values.kafka.sasl.user | quote }}}
- name: CALLCHAIN_BUS_KAFKA_SASL_PASSWORD
  valueFrom: {secretKeyRef: {name: {{ include "callchain.secret" . }}, key: {{ required "secret.kafkaPassword: name the key of the password at the brokers" .Values.secret.kafkaPassword }}}}
{{- end }}
{{- if .Values.kafka.tls.enabled }}
- {name: CALLCHAIN_BUS_KAFKA_TLS_ENABLED, value: "true"}
{{- if .Values.kafka.tls.secret }}
- {name: CALLCHAIN_BUS_KAFKA_TLS_CA, value: /etc/callchain/kafka/ca.crt}
{{- if .Values.kafka.tls.certificate }}
- {name: CALLCHAIN_BUS_KAFKA_TLS_CERT, value: /etc/callchain/kafka/tls.crt}
- {name: CALLCHAIN_BUS_KAFKA_TLS_KEY, value: /etc/callchain/kafka/tls.key}
{{- end }}
{{- end }}
{{- end }}
{{- range $key, $value := .Values.settings }}
- {name: CALLCHAIN_{{ $key | replace "." "_" | upper }}, value: {{ if and (kindIs "float64" $value) (eq (floor $value) $value) }}{{ $value | int64 | quote }}{{ else }}{{ $value | toString | quote }}{{ end }}}
{{- end }}
{{- end }}
