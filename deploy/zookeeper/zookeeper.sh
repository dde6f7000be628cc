#!/bin/bash
# Runs one ZooKeeper server of Debian's package without systemd, on loopback.
#
#   zookeeper.sh start DIR PORT   starts it with its data in DIR, returns once it serves
#   zookeeper.sh stop DIR         ends it; DIR keeps the data, so that it can be started again
#   zookeeper.sh kill DIR         the same with SIGKILL: a crash
#   zookeeper.sh status DIR       prints "running PID PORT" (exit 0) or "stopped" (exit 1)
#
# For demos, tests and benchmarks: one server, short ticks. A production ensemble has three servers on disks of
# their own; see README.
set -euo pipefail

usage() {
    sed -n '3,7s/^# \{0,1\}//p' "$0" >&2
    exit 2
}

say_mode() { # asks the server how it is; prints its answer
    local port=$1
    # A subshell keeps descriptor 3 and a refused connection's message to itself.
    (
        exec 3<>"/dev/tcp/127.0.0.1/$port"
        printf srvr >&3
        timeout 2 cat <&3
    ) 2>/dev/null || true
}

running_pid() { # prints the server's pid, or fails
    local dir=$1 pid
    pid=$(cat "$dir/zookeeper.pid" 2>/dev/null) || return 1
    # The pid may have gone to somebody else meanwhile: the command line names our folder.
    tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -qF -- "$dir/zoo.cfg" || return 1
    echo "$pid"
}

start() {
    local dir=$1 port=$2 pid
    mkdir -p "$dir/data"
    dir=$(cd "$dir" && pwd)
    if pid=$(running_pid "$dir"); then
        echo "zookeeper.sh: already running in $dir with pid $pid" >&2
        exit 1
    fi
    cat >"$dir/zoo.cfg" <<CONFIG
tickTime=100
dataDir=$dir/data
clientPort=$port
clientPortAddress=127.0.0.1
maxClientCnxns=0
maxSessionTimeout=60000
admin.enableServer=false
4lw.commands.whitelist=*
CONFIG
    echo "$port" >"$dir/zookeeper.port"
    # Out of the caller's session, so that an interrupted script decides itself when the server goes.
    setsid java -Xmx128m -XX:+UseSerialGC -Dorg.slf4j.simpleLogger.defaultLogLevel=warn \
        -cp /usr/share/java/zookeeper.jar:/usr/share/java/slf4j-simple.jar \
        org.apache.zookeeper.server.quorum.QuorumPeerMain "$dir/zoo.cfg" \
        </dev/null >>"$dir/zookeeper.log" 2>&1 &
    pid=$!
    echo "$pid" >"$dir/zookeeper.pid"

    local deadline=$((SECONDS + 60))
    until say_mode "$port" | grep -q '^Mode:'; do
        if ! kill -0 "$pid" 2>/dev/null; then
            echo "zookeeper.sh: the server ended; the end of $dir/zookeeper.log:" >&2
            tail -n 20 "$dir/zookeeper.log" >&2
            exit 1
        fi
        if [ "$SECONDS" -ge "$deadline" ]; then
            echo "zookeeper.sh: no answer on port $port within 60 s; see $dir/zookeeper.log" >&2
            kill -9 "$pid"
            exit 1
        fi
        sleep 0.05
    done
}

finish() { # finish DIR SIGNAL
    local dir pid
    dir=$(cd "$1" && pwd)
    pid=$(running_pid "$dir") || return 0
    kill "-$2" "$pid"
    local deadline=$((SECONDS + 10))
    while kill -0 "$pid" 2>/dev/null && ! grep -q '^State:.Z' "/proc/$pid/status" 2>/dev/null; do
        if [ "$SECONDS" -ge "$deadline" ]; then
            kill -9 "$pid" 2>/dev/null || true
        fi
        sleep 0.02
    done
    rm -f "$dir/zookeeper.pid"
}

status() {
    local dir pid
    dir=$(cd "$1" && pwd)
    if pid=$(running_pid "$dir"); then
        echo "running $pid $(cat "$dir/zookeeper.port")"
    else
        echo stopped
        exit 1
    fi
}

case "${1:-}" in
start) [ $# -eq 3 ] || usage; start "$2" "$3" ;;
stop) [ $# -eq 2 ] || usage; finish "$2" TERM ;;
kill) [ $# -eq 2 ] || usage; finish "$2" KILL ;;
status) [ $# -eq 2 ] || usage; status "$2" ;;
*) usage ;;
esac
