#!/bin/bash
# A whole cluster on this machine: kills a Redis master under constant writes and shows what a client saw.
#
#   make demo                 runs it and cleans up
#   make demo KEEP=1          leaves the cluster running; prints its addresses
#   demo.sh stop FOLDER       stops a cluster that was left running
set -euo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
build="$top/${MR_BUILD:-build}"
zookeeper="$top/deploy/zookeeper/zookeeper.sh"

say() { # a headline among the programs' output
    printf '\n\033[1m== %s\033[0m\n' "$*"
}

fail() {
    printf 'demo: %s\n' "$*" >&2
    exit 1
}

# The pid may have gone to somebody else meanwhile: our processes carry the folder in their environment. Not
# redis-server: it writes its title over its environment; it works in the folder.
is_ours() { # is_ours FOLDER PID
    tr '\0' '\n' 2>/dev/null <"/proc/$2/environ" | grep -qxF "MR_DEMO_FOLDER=$1" ||
        [[ "$(readlink "/proc/$2/cwd")" == "$1"/* ]]
}

stop_cluster() { # ends what FOLDER/processes lists, newest first, and removes the folder
    local folder=$1 pid name
    if [ -f "$folder/processes" ]; then
        while read -r pid name; do
            if [ -d "/proc/$pid" ] && is_ours "$folder" "$pid"; then
                kill "$pid" 2>/dev/null || true
                for _ in $(seq 100); do
                    kill -0 "$pid" 2>/dev/null || break
                    sleep 0.05
                done
                kill -9 "$pid" 2>/dev/null || true
            fi
        done < <(tac "$folder/processes")
    fi
    [ -d "$folder/zookeeper" ] && "$zookeeper" stop "$folder/zookeeper"
    rm -rf "$folder"
}

if [ "${1:-}" = stop ]; then
    [ $# -eq 2 ] && [ -f "$2/processes" ] || fail "usage: demo.sh stop FOLDER (as make demo KEEP=1 printed it)"
    stop_cluster "$2"
    exit 0
fi

# tmpfs where there is one: ZooKeeper syncs every write, and a busy disk is not what this shows.
folder=$(mktemp -d -p "$([ -w /dev/shm ] && echo /dev/shm || echo "${TMPDIR:-/tmp}")" mr-demo.XXXXXX)
: >"$folder/processes"
kept=
finish() {
    local status=$?
    if [ "$status" -ne 0 ] && [ -d "$folder" ]; then
        tail -n 15 "$folder"/*.log >&2 || true
    fi
    [ -n "$kept" ] || stop_cluster "$folder"
}
trap finish EXIT
trap 'exit 130' INT TERM

start() { # start NAME COMMAND…: in a session of its own, logs to FOLDER/NAME.log
    local name=$1
    shift
    MR_DEMO_FOLDER="$folder" setsid "$@" </dev/null >>"$folder/$name.log" 2>&1 &
    echo "$! $name" >>"$folder/processes"
    disown # the shell need not tell that it was killed
}

pid_of() {
    awk -v name="$1" '$2 == name { pid = $1 } END { print pid }' "$folder/processes"
}

wait_for() { # wait_for WHAT COMMAND…: until it succeeds, a minute at most
    local what=$1 deadline=$((SECONDS + 60))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$deadline" ] || fail "waited in vain for $what"
        sleep 0.02
    done
}

free_ports() { # free_ports N: so many ports in a row that nobody uses
    /usr/bin/python3 - "$1" <<'PYTHON'
import random, socket, sys

def free(port):
    with socket.socket() as s:
        try:
            s.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True

count = int(sys.argv[1])
# 6100 is where the instances' ports begin by default: taken when it is free.
for first in [6100] + [random.randrange(10000, 30000) for _ in range(1000)]:
    if all(free(port) for port in range(first, first + count)):
        print(first)
        break
else:
    sys.exit("no free ports")
PYTHON
}

mrctl() {
    "$build/bin/mrctl" --zk "$zk" "$@"
}

cart() { # cart KEY: the same of the instance "cart" in the topology
    mrctl --json topology cart | /usr/bin/python3 -c 'import json, sys
print(json.load(sys.stdin)["instances"][0][sys.argv[1]])' "$1"
}

in_sync() { # in_sync N: the controllers know so many members to be up and in sync
    mrctl --json topology cart | /usr/bin/python3 -c 'import json, sys
members = json.load(sys.stdin)["instances"][0]["members"]
fit = [m for m in members if m["state"] == "up" and not m.get("note") and (m["role"] == "master" or m["link"] == "up")]
sys.exit(len(fit) != int(sys.argv[1]))' "$1"
}

replicated() { # what the master has, both replicas have: WAIT counts what its own connection wrote
    [ "$(printf 'PUBLISH demo start\nWAIT 2 1000\n' | redis-cli -p "$redis" | tail -n 1)" = 2 ]
}

epoch_is() { # epoch_is N: and the surviving replica follows the new master
    [ "$(cart epoch)" -ge "$1" ] && [ "$(cart state)" = stable ] && in_sync 2
}

order() { # order LINE: tells the writing client; prints its answer
    local answer
    echo "$1" >&"${client[1]}"
    IFS= read -r -t 60 answer <&"${client[0]}" || fail "the client did not answer \"$1\": it can't write"
    echo "$answer"
}

first=$(free_ports 20)
zk="127.0.0.1:$((first + 19))/mr-redis"
http=$((first + 10)) redis=$((first + 14))

say "ZooKeeper, three controllers, a proxy"
"$zookeeper" start "$folder/zookeeper" $((first + 19))
for k in 1 2 3; do
    start "controller-$k" "$build/bin/mr-controller" --zk "$zk" --id "controller-$k" --advertise 127.0.0.1 \
        --http "127.0.0.1:$((http + k - 1))" --pub-port 0 --ingest-port 0 --vote-port 0 \
        --port-range "$first-$((first + 9))" --session-timeout-ms 1000
done
start proxy "$build/bin/mr-proxy" --zk "$zk" --id "$(hostname)" --http "127.0.0.1:$((http + 3))" \
    --cache-file "$folder/routes.json"
wait_for "the controllers" mrctl list
mrctl controllers

say "A Redis master and two replicas, taken over as the instance \"cart\""
for k in 0 1 2; do
    mkdir "$folder/redis-$k"
    start "redis-$k" redis-server --port $((redis + k)) --bind 127.0.0.1 --dir "$folder/redis-$k" --save '' \
        --repl-ping-replica-period 1 --repl-diskless-sync-delay 0 --repl-backlog-size 16mb \
        $([ "$k" -eq 0 ] || echo --replicaof 127.0.0.1 $redis)
    wait_for "redis-server on port $((redis + k))" redis-cli -p $((redis + k)) ping
done
# A replica that has just synchronized is sent nothing before its first acknowledgement, up to a second later.
wait_for "the replicas to follow" replicated
adopted=$(mrctl adopt cart "127.0.0.1:$redis" --wait)
echo "${adopted%%$'\n'*}"
wait_for "three members in sync" in_sync 3
port=$(cart port)
proxied() { [ "$(redis-cli -p "$port" ping)" = PONG ]; }
wait_for "the proxy to serve port $port" proxied
mrctl topology

say "A client writes without a pause through the proxy, 127.0.0.1:$port"
coproc client { exec "$build/tests/bench/outage_client" --port "$port" 2>>"$folder/client.log"; }
client_pid=$!
order begin >/dev/null
epoch=$(cart epoch)
master=$(cart master)
victim=redis-$((${master##*:} - redis))
echo "kill -9 of the master $master"
kill -9 "$(pid_of "$victim")"
wait_for "the failover" epoch_is $((epoch + 1))
round=$(order end)
verified=$(order verify)
order quit >/dev/null || true
wait "$client_pid" 2>/dev/null || true

say "What the client saw"
/usr/bin/python3 - "$round" "$verified" <<'PYTHON'
import json, sys

round_, verified = (json.loads(text) for text in sys.argv[1:])
errors = ", ".join(f"{count} × {kind}" for kind, count in round_["errors"].items()) or "none"
print(f"outage (last OK → next OK): {round_['outage_us'] / 1000:.1f} ms")
print(f"errors: {errors}; reconnects: {round_['reconnects']}")
print(f"acknowledged writes: {verified['acknowledged']}, missing afterwards: {verified['missing']}")
PYTHON

say "After the failover"
mrctl topology
mrctl history cart

say "The old master comes back, empty; it is made a replica"
start "$victim" redis-server --port "${master##*:}" --bind 127.0.0.1 --dir "$folder/$victim" --save '' \
    --repl-ping-replica-period 1 --repl-backlog-size 16mb
wait_for "the old master to follow the new one" in_sync 3
mrctl topology

if [ "${KEEP:-}" = 1 ]; then
    kept=yes
    say "Left running"
    cat <<TEXT
write through the proxy   redis-cli -p $port set greeting hello
look                      $build/bin/mrctl --zk $zk topology -w
kill the master           kill -9 <pid>; the redis-servers: $(awk '$2 ~ /^redis/ { pid[$2] = $1 } END { for (n in pid) printf "%s=%s ", n, pid[n] }' "$folder/processes")
controllers over HTTP     http://127.0.0.1:$http/v1/topology (also $((http + 1)), $((http + 2)))
logs                      $folder/*.log
stop it                   $top/deploy/demo/demo.sh stop $folder
TEXT
fi
