#!/bin/bash
# Measure the GPU tables of docs/speed.md in eight minutes on one GPU.
#
#     tools/measure_gpu.sh                                  # writes results/gpu/: a file for each part, and summary.md
#     OUT=results/h200 SECONDS_IN_ALL=900 tools/measure_gpu.sh
#     python -m openrayzer.benchmarks.gpu_tables results/gpu --page docs/speed.md
#
# Parts, in this order: the machine; attention backends; the step of rayzer_re10k and rayzer_dl3dv at the largest batch
# that fits; rendering; rasterisers; the loader feeding the GPU; ZeRO-2 and DDP; the other full-size experiments while
# time is left. If a part fails or takes too long, the script names it and continues. It needs neither data nor weights.
#
# Environment variables: OUT (output folder), SECONDS_IN_ALL (480, time limit), LEAST (10, no part starts with fewer
# seconds left), PYTHON, FIRST and REST (names of experiments), CHANGES (of every experiment, as for --set), CONTEXTS,
# TARGETS, ROUNDS.
# Exit code: 0 if no part failed, otherwise 1.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
PYTHON=${PYTHON:-python}
OUT=${OUT:-results/gpu}
SECONDS_IN_ALL=${SECONDS_IN_ALL:-480} LEAST=${LEAST:-10}
FIRST=${FIRST-"rayzer_re10k rayzer_dl3dv"}
REST=${REST-"rayder_dl3dv lvsm_re10k lvsm_dl3dv rayzer_paper_dl3dv lvsm_decoder_re10k"}
CONTEXTS=${CONTEXTS:-16} TARGETS=${TARGETS:-60} ROUNDS=${ROUNDS:-3}
read -ra CHANGED <<<"${CHANGES:-}"
MSE='loss=[{"loss":{"type":"mse"}}]' # the perceptual loss needs a file of weights
mkdir -p "$OUT" || exit 1
failed=()

# part NAME SECONDS COMMAND...: run COMMAND with its output in OUT/NAME.txt, for at most SECONDS and the time left
part() {
    local name=$1 seconds=$2 left=$((SECONDS_IN_ALL - SECONDS)) begin=$SECONDS code=0
    shift 2
    if ((left < LEAST)); then
        echo "$name: no time is left"
        return
    fi
    timeout --kill-after=5 "$((seconds < left ? seconds : left))" "$@" >"$OUT/$name.txt" 2>&1 || code=$?
    if ((code == 0)); then
        echo "$name: done in $((SECONDS - begin)) s"
    else
        failed+=("$name")
        echo "$name: exit code $code after $((SECONDS - begin)) s, see $OUT/$name.txt: $(tail -n 1 "$OUT/$name.txt")"
    fi
}

# step NAME SECONDS EXPERIMENT OPTIONS...: measure the training step of an experiment
step() {
    local name=$1 seconds=$2 experiment=$3
    shift 3
    part "$name" "$seconds" "$PYTHON" tools/benchmark_training.py "experiments/$experiment.json" "$@" \
        --steps 2 --rounds "$ROUNDS" --warm_up 2 --output "$OUT/$name.json" --set "$MSE" "${CHANGED[@]}"
}

head=${FIRST%% *}
part machine 60 "$PYTHON" tools/check_gpu.py --json "$OUT/machine.json"
part attention 75 "$PYTHON" tools/benchmark_attention.py --views 8 --tokens 256 --heads 12x64 --dtypes bfloat16 \
    --rounds "$ROUNDS" --output "$OUT/attention"
for experiment in $FIRST; do
    step "training_$experiment" 75 "$experiment" --clips noise --largest_batch
done
part rendering 45 "$PYTHON" tools/benchmark_rendering.py "experiments/$head.json" --contexts "$CONTEXTS" \
    --targets "$TARGETS" --rounds "$ROUNDS" --output "$OUT/rendering.json" --set "$MSE" "${CHANGED[@]}"
part rasterisers 45 "$PYTHON" tools/benchmark_rendering.py --rasterisers 16384 65536 --image_size 256 --targets 5 \
    --batch 4 --rounds "$ROUNDS" --output "$OUT/rasterisers.json"
clips=$(mktemp -d) && trap 'rm -rf "$clips"' EXIT
part clips 45 "$PYTHON" -c "from pathlib import Path
from openrayzer.benchmarks.sample_scenes import write_scenes
write_scenes(Path('$clips'), scenes=4, frames=200, chunks=4)"
step loading 60 "$head" --clips data --data "$clips"
gpus=$("$PYTHON" -c 'import torch; print(max(1, min(2, torch.cuda.device_count())))')
step zero_beside_ddp 75 "$head" --clips noise --against ddp --ranks "$gpus"
for experiment in $REST; do
    step "training_$experiment" 60 "$experiment" --clips noise --largest_batch
done
"$PYTHON" -m openrayzer.benchmarks.gpu_tables "$OUT" >"$OUT/summary.md" || failed+=(summary)
cat "$OUT/summary.md"
if ((${#failed[@]})); then
    echo "not measured: ${failed[*]}"
    exit 1
fi
