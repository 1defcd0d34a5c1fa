# For .ci/run: steps with their times, and at the end a table and a sum. What a step prints goes to the log as it comes.
steps_log=$(mktemp -d)
step_table=()
trap finish EXIT
trap 'exit 143' TERM
trap 'exit 130' INT

clock() { printf '%d:%02d' $(($1 / 60)) $(($1 % 60)); }

step() { # COMMAND...
  local began=$SECONDS status=0
  printf '\n=== %s\n' "$*"
  "$@" 2>&1 | tee "$steps_log/${#step_table[@]}" || status=$?
  local took=$((SECONDS - began)) how=passed
  [ "$status" -eq 0 ] || how="FAILED ($status)"
  step_table+=("$(printf '%7s  %-12s %s' "$(clock "$took")" "$how" "$*")")
  return "$status"
}

# The runners' own closing lines: ours and vitest's reporter, ctest, the suites in the VM.
count() {
  cat "$steps_log"/* 2>/dev/null | awk '
    /^[0-9]+ passed, [0-9]+ failed$/ { passed += $1; failed += $3 }
    / tests passed, [0-9]+ tests failed out of [0-9]+$/ { passed += $NF - $(NF - 5); failed += $(NF - 5) }
    /: [0-9]+ of [0-9]+ passed$/ { passed += $(NF - 3); failed += $(NF - 1) - $(NF - 3) }
    END { print passed + 0, failed + 0 }'
}

finish() {
  local status=$? passed failed
  read -r passed failed < <(count)
  # A step that fails without a count of its own counts as one.
  [ "$status" -eq 0 ] || [ "$failed" -gt 0 ] || failed=1
  printf '\n'
  printf '%s\n' "${step_table[@]}"
  printf '%7s  in all\n' "$(clock "$SECONDS")"
  grep -h '^!!! NOT RUN' "$steps_log"/* || true
  rm -rf "$steps_log"
  printf '%d passed, %d failed\n' "$passed" "$failed"
}
