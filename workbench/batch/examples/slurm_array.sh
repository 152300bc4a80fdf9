#!/usr/bin/env bash
# One notebook per task of a SLURM job array, with plain papermill: nothing of `workbench run` is needed.
#   sbatch --array=0-$(( $(ls notebooks/[0-9]*/*.ipynb | wc -l) - 1 )) workbench/batch/examples/slurm_array.sh ci
#SBATCH --cpus-per-task=1
#SBATCH --mem=4G
#SBATCH --time=00:30:00
#SBATCH --output=slurm-%A-%a.log
set -euo pipefail
preset=${1:-ci}
out=${OUT:-runs-slurm}/$preset
mapfile -t notebooks < <(ls "${NOTEBOOKS:-notebooks}"/[0-9]*/*.ipynb)
in=${notebooks[${SLURM_ARRAY_TASK_ID:?start this with sbatch --array, or set SLURM_ARRAY_TASK_ID}]}
target=$out/$(basename "$(dirname "$in")")/$(basename "$in")
mkdir -p "$(dirname "$target")"
export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1} MKL_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}
# Into a temporary name first: a task that is cut off leaves nothing that looks finished.
papermill "$in" "$target.part.ipynb" -p preset "$preset" --cwd "$(dirname "$in")" --no-progress-bar
mv "$target.part.ipynb" "$target"
