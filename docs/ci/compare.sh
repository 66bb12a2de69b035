#!/usr/bin/env bash
# Measure two versions of a service on one machine, and print the comparison as Markdown on stdout.
#
#   compare.sh BASE    in a checkout of the new version; BASE is the commit to compare it with
#
# Settings, from the environment:
#   START        command that starts the service in its checkout on 127.0.0.1:$PORT, and stays in the foreground
#   SETUP        command that prepares a checkout first, such as an installation (default: nothing)
#   ASK_PATH     path to measure (default: /)
#   RUN_FLAGS    flags for `execbench run` (default: -c 1 -c 8 --blocks 12 --duration 1)
#   GATE_FLAGS   flags for `execbench compare` (default: --fail-on slower)
#   PORT_OLD, PORT_NEW   (default: 8101 and 8102)
#   OUT          folder for the run, which must not exist (default: execbench-run)
#   EXECBENCH    command of execbench (default: execbench)
#
# Exit codes: those of `execbench compare` (3: slower, 4: no honest comparison), 1 if a service does not start.
set -euo pipefail

base=${1:?"Give the commit to compare with: compare.sh BASE"}
: "${START:?"Set START to the command that starts the service on 127.0.0.1:\$PORT"}"
setup=${SETUP:-:} path=${ASK_PATH:-/} out=${OUT:-execbench-run} execbench=${EXECBENCH:-execbench}
port_old=${PORT_OLD:-8101} port_new=${PORT_NEW:-8102}
scratch=$(mktemp -d)
groups=() # process groups that this script has started

clean_up() {
  for group in ${groups[@]+"${groups[@]}"}; do
    kill -TERM -- "-$group" 2>/dev/null || true # the whole process group
    for _ in {1..50}; do
      kill -0 -- "-$group" 2>/dev/null || break
      sleep 0.1
    done
    kill -KILL -- "-$group" 2>/dev/null || true
  done
  git worktree remove --force "$scratch/old" 2>/dev/null || true
  rm -rf "$scratch"
}
trap clean_up EXIT
trap 'exit 143' TERM
trap 'exit 130' INT

in_background() { # with a process group of its own; bash handles signals while it waits for one, not while it runs one
  set -m
  "$@" </dev/null &
  groups+=($!)
  set +m
}

start() { # start NAME FOLDER PORT
  cd "$2" && PORT=$3 exec bash -c "$START" >"$scratch/$1.log" 2>&1
}

wait_for() { # wait_for NAME PORT GROUP
  for _ in {1..600}; do
    if (exec 3<>"/dev/tcp/127.0.0.1/$2") 2>/dev/null; then return; fi
    kill -0 -- "-$3" 2>/dev/null || break
    sleep 0.1
  done
  echo "The service of the $1 version does not listen on 127.0.0.1:$2. Its last output:" >&2
  tail -n 20 "$scratch/$1.log" >&2
  exit 1
}

git worktree add --quiet --detach "$scratch/old" "$base" >&2
for folder in "$scratch/old" .; do (cd "$folder" && bash -c "$setup") >&2; done
in_background start old "$scratch/old" "$port_old"
in_background start new . "$port_new"
wait_for old "$port_old" "${groups[0]}"
wait_for new "$port_new" "${groups[1]}"

# Both versions are asked in the same blocks, in random order, so that a change of the machine's speed meets both.
# shellcheck disable=SC2086 # the flags are words
in_background $execbench run --url "old=http://127.0.0.1:$port_old$path" --url "new=http://127.0.0.1:$port_new$path" \
  ${RUN_FLAGS:--c 1 -c 8 --blocks 12 --duration 1} --out "$out" >&2
wait "${groups[2]}"
unset 'groups[2]'

code=0
# shellcheck disable=SC2086
markdown=$($execbench compare "$out:old" "$out:new" ${GATE_FLAGS:---fail-on slower} --markdown) || code=$?
echo "${markdown:-**No verdict: the comparison was refused. The log says why.**}"
exit "$code"
