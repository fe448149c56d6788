#!/bin/bash
# Fill the GPU tables of docs/speed.md: eight minutes on one GPU.
#
#     tools/measure_gpu.sh                                  # writes results/gpu/: one file a part, and summary.md
#     OUT=results/h200 SECONDS_IN_ALL=900 tools/measure_gpu.sh
#     python -m openrayzer.benchmarks.gpu_tables results/gpu --page docs/speed.md
#
# Parts, in this order: the machine; attention backends; the step of rayzer_re10k and rayzer_dl3dv at the largest batch
# that fits; rendering; the loader feeding the GPU; ZeRO-2 beside DDP; the other full-size experiments while time is left.
# The script names a part that fails or takes too long, and goes on with the others. Neither data nor weights are needed.
#
# Settings, by environment variables: OUT, SECONDS_IN_ALL (480), LEAST (10, seconds with which a part is begun), PYTHON,
# FIRST and REST (experiments, by name), CHANGES (of every experiment, as --set takes them), CONTEXTS, TARGETS, ROUNDS.
# Exit code: 0 all parts that began ended well; 1 a part failed.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
PYTHON=${PYTHON:-python}
OUT=${OUT:-results/gpu}
SECONDS_IN_ALL=${SECONDS_IN_ALL:-480} LEAST=${LEAST:-10}
FIRST=${FIRST-"rayzer_re10k rayzer_dl3dv"}
REST=${REST-"rayder_dl3dv lvsm_re10k lvsm_dl3dv rayzer_paper_dl3dv lvsm_decoder_re10k"}
CONTEXTS=${CONTEXTS:-16} TARGETS=${TARGETS:-60} ROUNDS=${ROUNDS:-3}
read -ra CHANGED <<<"${CHANGES:-}"
MSE='loss=[{"loss":{"type":"mse"}}]' # the perceptual loss needs a file
mkdir -p "$OUT" || exit 1
failed=()

# part NAME SECONDS COMMAND...: run it with its output in OUT/NAME.txt, no longer than that nor than what is left
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

# step NAME SECONDS EXPERIMENT OPTIONS...: the training step of an experiment
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
