#!/usr/bin/env bash
# The published study's design (two resolutions, three readers, two questions; Becker et al., Eur J Radiol 2019), rehearsed
# from the first picture to the report: on phantoms, by model observers. No data set, no reader and no network is needed;
# some ten minutes on two cores. Whatever it shows is SIMULATED, and says so.
#
#   examples/reader-study/rehearse.sh [OUT]
#
# STEPS (of training), WOMEN (phantoms of the study) and PATH (where `scanward` is) are read from the environment.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-scanward-reader-study}
PATH="$here/../../.venv/bin:$PATH"
mkdir -p "$out"

# Women to learn from, and others for the study: nobody is in both.
[[ -e "$out/learn/manifest.json" ]] || scanward mammo phantom "$out/learn" --patients 600 --size 64 --seed 1
[[ -e "$out/phantoms/manifest.json" ]] ||
  scanward mammo phantom "$out/phantoms" --patients "${WOMEN:-130}" --size 512x408 --seed 2

# The generator, and its modified twins. The visible mark would give the truth away; the marks in the metadata stay.
scanward tamper train --data "$out/learn" --preset scanward-64 --steps "${STEPS:-600}" --out "$out/run"
scanward tamper insert "$out/phantoms" --model "$out/run" --out "$out/inserted" --no-visible-mark
scanward tamper remove "$out/phantoms" --model "$out/run" --out "$out/removed" --no-visible-mark

# The design of the example as a rehearsal; then make, read, export and analyse.
sed 's/^simulated *= *false/simulated = true/' "$here/design.toml" > "$out/design.toml"
[[ -e "$out/study" ]] || scanward study create --genuine "$out/phantoms" \
  --modified "$out/inserted" --modified "$out/removed" --design "$out/design.toml" --out "$out/study"
scanward study rehearse "$out/study"
scanward study export "$out/study" --out "$out/ratings.csv"
scanward study analyse "$out/ratings.csv" --study "$out/study" --report "$out/report.html"
