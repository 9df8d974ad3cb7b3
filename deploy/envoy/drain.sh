#!/usr/bin/env bash
# Takes this Envoy out of service without cutting a call: for a container's preStop, since Envoy ends at once on SIGTERM.
#
#   drain.sh [ADMIN_PORT] [SECONDS]
#
# /ready of the status port turns 503 and answers ask callers to connect anew, elsewhere; then it waits until no call is
# under way, at most SECONDS. Needs bash and sed alone: the image of Envoy has no HTTP client.
set -euo pipefail
port=${1:-9901}
seconds=${2:-60}

ask() { # METHOD PATH
  exec 3<>"/dev/tcp/127.0.0.1/$port"
  printf '%s %s HTTP/1.1\r\nHost: admin\r\nConnection: close\r\nContent-Length: 0\r\n\r\n' "$1" "$2" >&3
  cat <&3
  exec 3>&-
}

ask POST /healthcheck/fail >/dev/null
ask POST '/drain_listeners?graceful&skip_exit' >/dev/null
for ((waited = 0; waited < seconds; waited++)); do
  under_way=$(ask GET '/stats?filter=^http\.front\.downstream_rq_active$' | sed -n 's/^http\.front\.downstream_rq_active: //p' | tr -d '\r')
  [[ $under_way == 0 && $waited -ge 1 ]] && exit 0
  sleep 1
done
