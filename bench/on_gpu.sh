#!/usr/bin/env bash
# The first ten minutes on a GPU: everything that only a GPU can tell, one stage after another.
#
#   bash bench/on_gpu.sh [FOLDER] [SHARDS]      FOLDER: results (default: on_gpu). SHARDS: a shard folder with JPEGs to
#                                               measure on (default: scenes, drawn first)
#   python -m bench.gpu_report FOLDER           tables from the results
#
# Each stage writes FOLDER/STAGE.json and FOLDER/STAGE.log; one that fails, hangs or crashes costs only itself. It all
# ends within 9 minutes: a stage that comes too late is left out and says so. Environment: PYTHON (default:
# .venv/bin/python where there is one, else python3), DEVICE=cpu and QUICK=1 (to try the stages out without a GPU),
# TOTAL (seconds for all, default 540), SEGRAIL_REALDATA (a folder with real JPEGs for the stage `decoders`).
set -u
cd "$(dirname "$0")/.." || exit 2
folder=${1:-on_gpu}
shards=${2:-}
total=${TOTAL:-540}
python=${PYTHON:-python3}
[ -z "${PYTHON:-}" ] && [ -x .venv/bin/python ] && python=.venv/bin/python
mkdir -p "$folder" || exit 2
failed=0

stage() { # stage NAME SECONDS: at most so long, and not past the end of all
    local name=$1 limit=$2 left=$((total - SECONDS)) code=0
    [ "$limit" -gt "$left" ] && limit=$left
    rm -f "$folder/$name.json"
    if [ "$limit" -lt 5 ]; then
        code=124
    else
        STAGE_SECONDS=$limit timeout --kill-after=3 "$limit" "$python" -m bench.gpu "$name" "$folder" --device "${DEVICE:-gpu}" \
            ${shards:+--data "$shards"} ${QUICK:+--quick} >"$folder/$name.log" 2>&1 || code=$?
    fi
    if [ ! -e "$folder/$name.json" ]; then
        local why="ended with code $code; see $name.log"
        [ "$code" = 124 ] || [ "$code" = 137 ] && why="ran past its ${limit} s"
        printf '{"stage": "%s", "ok": false, "error": "%s"}\n' "$name" "$why" >"$folder/$name.json"
    fi
    if [ "$code" = 0 ]; then
        echo "$name: done after ${SECONDS} s in all"
    else
        failed=1
        echo "$name: FAILED: $(tail -n 1 "$folder/$name.log" 2>/dev/null)"
    fi
}

stage versions 40
[ -z "$shards" ] && stage scenes 90
stage smoke 40
stage streams 40
stage decoders 40
stage reuse 30
stage capture 40
stage gradients 30
stage resident 40
stage loader 110
stage training 120
stage levers 120
stage tests 100
stage nets 120
"$python" -m bench.gpu_report "$folder" --out "$folder/report.md" >/dev/null && echo "tables: $folder/report.md"
exit $failed
