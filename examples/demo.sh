#!/usr/bin/env bash
# Start a service in a temporary data directory, run the four jobs of encrypted_training.py, and take everything down.
# With FLEET=ray their instances run on two simulated hosts.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ "${FLEET:-local}" = ray ]; then
    PYTHONPATH=tests exec .venv/bin/python examples/hosts_demo.py
fi
phalanx=.venv/bin/phalanx
data=$(mktemp -d)
export PHALANX_DATA_DIR=$data

finish() {
    status=$?
    kill -TERM "$service" 2>/dev/null || true
    wait "$service" || true
    [ $status -eq 0 ] || { echo "--- the service's log"; tail -n 40 "$data/serve.log"; tail -n 40 "$data/agent.log"; } >&2
    rm -rf "$data"
}

port=$(.venv/bin/python -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
echo "Phalanx starts in $data on port $port …"
"$phalanx" serve --port "$port" 2>"$data/serve.log" &
service=$!
trap finish EXIT
until (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
    kill -0 "$service" 2>/dev/null || exit 1
    sleep 0.1
done
eval "$("$phalanx" env)"
.venv/bin/python examples/encrypted_training.py
