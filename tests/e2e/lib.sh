# SPDX-License-Identifier: BSD-3-Clause
# What the end-to-end tests share: each has a folder of its own, checks claims, and leaves nothing
# behind. Sourced by bash scripts; $BUILD is the build tree.
set -u -o pipefail

: "${BUILD:?the build tree, e.g. BUILD=build-debug}"
nbdkit=$BUILD/bin/nbdkit
# nbdsh and its like find the system's Python, which has the bindings.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
folder=$(mktemp -d /tmp/nbdkit-e2e-XXXXXX)
socket=$folder/socket
uri="nbd+unix://?socket=$socket"
servers=()
failures=0

clean_up() {
  local server
  # A child that a signal meets between its fork and its exec runs its parent's trap.
  [ "$BASHPID" = $$ ] || return
  for server in "${servers[@]}"; do kill -KILL "$server" 2>/dev/null; done
  rm -rf "$folder"
}
trap clean_up EXIT

fail() {
  echo "FAILED: $*" >&2
  failures=$((failures + 1))
}

# The last line of every script.
finish() {
  [ "$failures" -eq 0 ] && echo "passed: $0"
  exit $((failures != 0))
}

# check CLAIM COMMAND...: the command succeeds.
check() {
  local claim=$1
  shift
  "$@" || fail "$claim: $*"
}

# check_equal CLAIM EXPECTED ACTUAL
check_equal() {
  [ "$2" = "$3" ] || fail "$1: expected '$2', got '$3'"
}

# check_match CLAIM REGEX TEXT: a line of the text matches.
check_match() {
  grep -qE -- "$2" <<<"$3" || fail "$1: nothing like '$2' in '$3'"
}

# refused REGEX ARGUMENTS...: nbdkit ends with status 1 and one line that matches.
refused() {
  local expected=$1 status lines
  shift
  timeout 30 "$nbdkit" "$@" </dev/null >"$folder/stdout" 2>"$folder/stderr"
  status=$?
  lines=$(wc -l <"$folder/stderr")
  [ "$status" -eq 1 ] || fail "nbdkit $*: status $status instead of 1"
  [ "$lines" -eq 1 ] || fail "nbdkit $*: $lines lines on stderr: $(cat "$folder/stderr")"
  grep -qE -- "^nbdkit: error: .*$expected" "$folder/stderr" ||
    fail "nbdkit $*: nothing like '$expected' in: $(cat "$folder/stderr")"
}

# start ARGUMENTS...: starts a server that stays in the foreground; $pid when it is ready. The pid
# file is a pipe, so that reading it waits for exactly that.
start() {
  rm -f "$folder/ready"
  mkfifo -m 666 "$folder/ready"
  "$nbdkit" -f -P "$folder/ready" "$@" </dev/null &
  servers+=($!)
  pid=$(timeout 30 cat "$folder/ready") || fail "nbdkit $*: not ready"
}

# stop [SIGNAL]: ends the server of start; $status.
stop() {
  kill -"${1:-TERM}" "$pid"
  wait "$pid"
  status=$?
}

# wait_gone PID: until a process that is no child of ours has ended, reaped or not.
wait_gone() {
  /usr/bin/python3 - "$1" <<'PYTHON'
import os, select, sys
try:
    fd = os.pidfd_open(int(sys.argv[1]))
except ProcessLookupError:
    sys.exit(0)
sys.exit(0 if select.select([fd], [], [], 60)[0] else 1)
PYTHON
}

# read_and_write URI: a client writes a pattern and reads it back.
read_and_write() {
  qemu-io -f raw -c "write -P 0x5a 64k 128k" -c "read -P 0x5a 64k 128k" "$1" >/dev/null
}
