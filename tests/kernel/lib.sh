# shellcheck shell=bash
# SPDX-License-Identifier: BSD-3-Clause
# What every kernel test needs. A test is an executable bash script named *_test that begins
#
#   . "$(dirname "$0")/lib.sh"
#   in_guest --memory 1G          # run-in-uml's options; from here on root on a kernel with nbd
#   check "the answer is 42" test "$answer" = 42
#
# and ends by falling off its end: the exit status is 1 when a check failed or none was made.

set -u
kKernelTests=$(cd -P "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly kKernelTests
readonly kSource=${kKernelTests%/tests/kernel}
export BUILD=${BUILD:-$kSource/build} # where the programs are: $BUILD/bin/nbdkit-attach
checks_made=0 checks_failed=0 cleanups=()

# On the host: starts this test anew inside User-Mode Linux (or what KERNEL says) and does not return.
in_guest() { # RUN-IN-UML-OPTION...
  [[ -n ${UML_GUEST:-} ]] && return
  trap - EXIT
  if ! BUILD=$(realpath -e "$BUILD"); then
    echo "$(basename "$0"): build first, or set BUILD" >&2
    exit 1
  fi
  # The emulated machine is about four times slower than what the tests' limits were made for.
  [[ ${KERNEL:-} != 6.12 ]] || export GUEST_PATIENCE=4
  exec "$kKernelTests/run-in-uml" --env BUILD="$BUILD" "$@" -- "$0"
}

# Runs COMMAND; its output is shown only when it fails. The test goes on after a failure:
# `check ... || exit` where the rest would make no sense.
check() { # NAME COMMAND...
  local name=$1 output status
  shift
  output=$("$@" 2>&1)
  status=$?
  report "$name" "$status" "$output" "$@"
}

# Expects COMMAND to fail with this very status and to say something that matches the pattern.
check_fails() { # NAME STATUS EXTENDED-REGEX COMMAND...
  local name=$1 expected=$2 pattern=$3 output status
  shift 3
  output=$("$@" 2>&1)
  status=$?
  [[ $status == "$expected" && $output =~ $pattern ]]
  report "$name" "$?" "exit status $status, expected $expected; expected to read: $pattern"$'\n'"$output" "$@"
}

report() { # NAME STATUS OUTPUT COMMAND...
  local name=$1 status=$2 output=$3 command
  shift 3
  command=$*
  checks_made=$((checks_made + 1))
  if ((status == 0)); then
    echo "ok: $name"
    return 0
  fi
  checks_failed=$((checks_failed + 1))
  echo "FAIL: $name"
  echo "  command: ${command:0:400}"
  echo "  status: $status"
  [[ -z $output ]] || printf '%s\n' "$output" | head -n 50 | sed 's/^/  | /'
  return 1
}

# Polls until COMMAND succeeds. Builtins and functions without $(...) are the cheap conditions:
# every process started costs 20 to 30 ms in User-Mode Linux.
wait_for() { # SECONDS COMMAND...
  local deadline=$((${EPOCHREALTIME/./} + $1 * 1000000))
  shift
  until "$@" >/dev/null 2>&1; do
    if ((${EPOCHREALTIME/./} > deadline)); then
      echo "gave up waiting for: $*"
      return 1
    fi
    sleep 0.05
  done
}

# Registers a command for the end of the test; the last one registered runs first.
at_end() { # COMMAND...
  cleanups=("$(printf '%q ' "$@")" "${cleanups[@]}")
}

end_test() {
  local status=$? cleanup
  # A child that a signal meets between its fork and its exec runs its parent's trap.
  [[ $BASHPID == "$$" ]] || return
  trap - EXIT
  for cleanup in "${cleanups[@]}"; do eval "$cleanup"; done
  echo "$(basename "$0"): $checks_made checks, $checks_failed failed"
  ((checks_failed == 0 && checks_made > 0)) || status=1
  exit "$status"
}
trap end_test EXIT

# A file without two equal blocks, so that misplaced data shows.
make_image() { # FILE BYTES
  seq 1000000000000 9999999999999 2>/dev/null | head -c "$2" >"$1"
}

# Same names, types, modes, owners, sizes, link targets and contents.
compare_trees() { # FOLDER FOLDER
  diff <(list_tree "$1") <(list_tree "$2") && diff -r --no-dereference "$1" "$2"
}

list_tree() { # FOLDER
  (cd "$1" && find . -name lost+found -prune -o -type d -printf '%p %y %m %U:%G\n' \
    -o -printf '%p %y %m %U:%G %s %l\n' | LC_ALL=C sort)
}

# The numbers of the processes whose program's name (argv[0]) matches the pattern.
find_processes() { # GLOB
  local process argv0
  for process in /proc/[0-9]*; do
    argv0=''
    read -r -d '' argv0 <"$process/cmdline"
    [[ ${argv0##*/} == $1 ]] && echo "${process#/proc/} $argv0"
  done 2>/dev/null
}

# The driver makes sysfs `pid` while a device is configured.
find_attached() {
  local pid
  for pid in /sys/block/nbd*/pid; do
    [[ ! -e $pid ]] || echo "${pid%/pid}"
  done
}

# Succeeds when our programs have left no process, no file in /run/nbdkit and no device.
nothing_left() {
  local left
  left=$(find_processes 'nbdkit*'; find_attached; find /run/nbdkit -mindepth 1 2>/dev/null)
  [[ -z $left ]] && return
  printf '%s\n' "left behind:" "$left"
  return 1
}
